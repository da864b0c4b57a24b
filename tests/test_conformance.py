"""One suite for every token engine: the same tokens, refusals and promises, from the embedded checkpoint.

`make test` runs it for torch, `make test-vllm` for both. What is right is computed by `model.transformer` over whole
sequences, without a cache; so engines that pass say the same as each other.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

from clients import sound
from model import EMBEDDED
from model.audio_tokenizer import TOKEN_SAMPLES
from model.checkpoint import SpeechModel, load
from model.layout import SPEECH_RUN
from model.random_checkpoint import write as random_checkpoint
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    AddText,
    AudioDelta,
    Event,
    OpenSession,
    Respond,
    ResponseDone,
    SessionFailed,
    TextDelta,
)
from server.engine.remote import RemoteEngine
from server.engine.rules import Script, SpeechRule, TextRule
from server.engine.speech_engine import SpeechEngine
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import (
    UNLIMITED,
    Allowed,
    Rule,
    Sampled,
    Sampling,
    TokenEngine,
    TokenSequence,
    TurnOpinion,
)
from server.errors import EngineFull, EngineRestarted, EngineUnavailable, SequenceTooLong

_HAS_VLLM = importlib.util.find_spec("vllm") is not None
_needs_vllm = pytest.mark.skipif(not _HAS_VLLM, reason="vLLM is not installed; `make test-vllm` does")
_KINDS = ["torch", pytest.param("vllm", marks=_needs_vllm)]

CONFIG = EngineConfig(weights="float32", slots=8, length=512, prefill_tokens=32)
GREEDY = Sampling()


class Endless:
    """Speech that never ends by itself."""

    def __init__(self, first: int, stop: int) -> None:
        self._allowed = Allowed(first, stop, run=UNLIMITED)

    def allowed(self) -> Allowed:
        return self._allowed

    def accept(self, token: int) -> bool:
        return False


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return load(EMBEDDED)


@pytest.fixture(scope="module", params=_KINDS)
def made(request: pytest.FixtureRequest, model: SpeechModel) -> Iterator[TokenEngine]:
    if request.param == "torch":
        yield TorchTokenEngine(model.transformer, model.layout, CONFIG)
        return
    from server.engine.vllm_engine import VllmTokenEngine

    engine = VllmTokenEngine(EMBEDDED, model.layout, CONFIG)
    yield engine
    engine.shut_down()


@pytest.fixture
def engine(made: TokenEngine) -> Iterator[TokenEngine]:
    yield made
    made.clear()


@pytest.fixture(scope="module")
def heard(model: SpeechModel) -> list[int]:
    """A question that ships, as heard tokens."""
    samples, _ = soundfile.read(sound.questions()[0], dtype="float32")
    whole = torch.from_numpy(samples[: len(samples) // TOKEN_SAMPLES * TOKEN_SAMPLES])[None]
    with torch.inference_mode():
        codes, _ = model.tokenizer(whole, model.tokenizer.initial_state(1))
    return [model.layout.heard_start + c for c in codes[0].tolist()]


def typed(model: SpeechModel, text: str) -> list[int]:
    layout = model.layout
    opening = [layout.control("<end>"), layout.control("<assistant>"), layout.control("<speech>")]
    return [layout.control("<user>"), layout.control("<text>"), *model.text.encode(text), *opening]


def asked(engine: TokenEngine, prompt: list[int], rule: Rule, sampling: Sampling = GREEDY) -> TokenSequence:
    sequence = engine.open()
    engine.append(sequence, prompt)
    engine.generate(sequence, rule, sampling)
    return sequence


def outputs_until_done(engine: TokenEngine, *sequences: TokenSequence) -> list[Sampled | TurnOpinion]:
    outputs: list[Sampled | TurnOpinion] = []
    while any(s.rule is not None for s in sequences):
        outputs += engine.step()
    return outputs


def read_all(engine: TokenEngine) -> list[Sampled | TurnOpinion]:
    outputs: list[Sampled | TurnOpinion] = []
    while engine.has_work:
        outputs += engine.step()
    return outputs


def tokens_of(outputs: list[Sampled | TurnOpinion], sequence: TokenSequence) -> list[int]:
    return [o.token for o in outputs if isinstance(o, Sampled) and o.sequence is sequence]


def said(engine: TokenEngine, prompt: list[int], rule: Rule, sampling: Sampling = GREEDY) -> list[int]:
    """What is generated after a prompt, alone."""
    sequence = asked(engine, prompt, rule, sampling)
    outputs = outputs_until_done(engine, sequence)
    engine.close(sequence)
    return tokens_of(outputs, sequence)


def assert_likeliest(model: SpeechModel, prompt: list[int], tokens: list[int], rule: Rule) -> None:
    """Every token is the likeliest of those that the rule allowed."""
    with torch.inference_mode():
        logits = model.transformer(torch.tensor([[*prompt, *tokens]]))[0, len(prompt) - 1 :]
    for position, token in enumerate(tokens):
        allowed = rule.allowed()
        ids = [*range(allowed.start, allowed.stop), *allowed.also]
        assert token == ids[int(logits[position, ids].argmax())], f"token {position} of {tokens}"
        assert rule.accept(token) == (position == len(tokens) - 1)


# --- the same tokens -------------------------------------------------------------------------------------------------


def test_a_hundred_prompts_are_answered_with_the_likeliest_tokens(
    engine: TokenEngine, model: SpeechModel, heard: list[int]
) -> None:
    layout = model.layout
    words = ["what", "is", "the", "capital", "of", "three", "plus", "my", "name", "spell", "after", "month"]
    prompts = [typed(model, " ".join(words[(i * k) % 12] for k in range(1, 3 + i % 9))) for i in range(60)]
    rules = [SpeechRule(layout, 40) for _ in prompts]
    ending = [layout.control("<end>"), layout.control("<transcript>")]
    for i in range(40):
        prompts.append([layout.control("<user>"), *heard[i % 10 : len(heard) - i // 2], *ending])
        rules.append(TextRule(layout, 40))
    for first in range(0, len(prompts), CONFIG.slots):
        wave = range(first, min(first + CONFIG.slots, len(prompts)))
        sequences = {i: asked(engine, prompts[i], rules[i]) for i in wave}
        outputs = outputs_until_done(engine, *sequences.values())
        for i, sequence in sequences.items():
            fresh = SpeechRule(layout, 40) if i < 60 else TextRule(layout, 40)
            assert_likeliest(model, prompts[i], tokens_of(outputs, sequence), fresh)
            engine.close(sequence)


def test_a_script_is_said_word_for_word_and_its_speech_is_the_likeliest(
    engine: TokenEngine, model: SpeechModel
) -> None:
    prompt, script = typed(model, "hello"), model.text.encode("The capital of France is Paris.")
    tokens = said(engine, prompt, SpeechRule(model.layout, 60, Script(list(script), whole=True)))
    assert [t for t in tokens if model.layout.is_text(t)] == script
    assert_likeliest(model, prompt, tokens, SpeechRule(model.layout, 60, Script(list(script), whole=True)))


@pytest.mark.parametrize("unread", [0, 1, 5])
def test_a_fork_and_what_it_was_forked_from_go_different_ways(
    engine: TokenEngine, model: SpeechModel, unread: int
) -> None:
    layout, prompt = model.layout, typed(model, "hello")
    sequence = engine.open()
    engine.append(sequence, prompt[: len(prompt) - unread])
    read_all(engine)
    engine.append(sequence, prompt[len(prompt) - unread :])
    fork = engine.fork(sequence, len(prompt) - 1)
    engine.append(fork, [layout.control("<text>")])
    engine.generate(fork, TextRule(layout, 12), GREEDY)
    engine.rewind(sequence, len(prompt) - 1)
    engine.append(sequence, prompt[-1:])
    engine.generate(sequence, SpeechRule(layout, 40), GREEDY)
    outputs = outputs_until_done(engine, sequence, fork)
    assert_likeliest(model, prompt, tokens_of(outputs, sequence), SpeechRule(layout, 40))
    written = [*prompt[:-1], layout.control("<text>")]
    assert_likeliest(model, written, tokens_of(outputs, fork), TextRule(layout, 12))
    engine.close(fork)
    engine.close(engine.fork(sequence, 3))  # its place is free again


def test_a_sequence_waits_for_what_its_rule_does_not_know_yet(engine: TokenEngine, model: SpeechModel) -> None:
    prompt, pieces = typed(model, "hello"), model.text.encode("The capital of France is Paris.")
    script = Script()
    sequence = asked(engine, prompt, SpeechRule(model.layout, 60, script))
    assert not engine.has_work
    assert engine.step() == []
    outputs: list[Sampled | TurnOpinion] = []
    for first in range(0, len(pieces), 3):
        script.pieces += pieces[first : first + 3]
        outputs += read_all(engine)
    script.whole = True
    outputs += outputs_until_done(engine, sequence)
    tokens = tokens_of(outputs, sequence)
    assert [t for t in tokens if model.layout.is_text(t)] == pieces
    assert_likeliest(model, prompt, tokens, SpeechRule(model.layout, 60, Script(list(pieces), whole=True)))


def test_the_end_of_turn_opinion_is_that_of_the_whole_sequence(
    engine: TokenEngine, model: SpeechModel, heard: list[int]
) -> None:
    tokens = [model.layout.control("<user>"), *heard]
    sequence, opinions = engine.open(), []
    for first in range(0, len(tokens), 5):
        engine.append(sequence, tokens[first : first + 5])
        opinions += read_all(engine)
    with torch.inference_mode():
        logits = model.transformer(torch.tensor([tokens]))[0]
    difference = logits[:, model.layout.control("<end>")] - logits[:, model.layout.control("<listen>")]
    positions = [min(first + 5, len(tokens)) for first in range(0, len(tokens), 5)]
    assert [o.position for o in opinions if isinstance(o, TurnOpinion)] == positions
    for opinion in opinions:
        assert isinstance(opinion, TurnOpinion)
        assert opinion.probability == pytest.approx(float(torch.sigmoid(difference[opinion.position - 1])), abs=1e-3)


def test_the_same_seed_says_the_same_and_another_does_not(engine: TokenEngine, model: SpeechModel) -> None:
    """As warm as vLLM allows: a model that is sure of an answer gives the same one for many seeds."""
    prompt, warm = typed(model, "hello"), [Sampling(2, 2, seed) for seed in (1, 1, 2, 3, 4)]
    first, again, *others = (said(engine, prompt, SpeechRule(model.layout, 40), sampling) for sampling in warm)
    assert first == again
    assert others != [first] * 3


# --- rewinding and cancelling ----------------------------------------------------------------------------------------


def test_what_was_rewound_was_never_said(engine: TokenEngine, model: SpeechModel) -> None:
    prompt = typed(model, "what is the capital of france")
    sequence = asked(engine, prompt, SpeechRule(model.layout, 40))
    outputs_until_done(engine, sequence)
    for kept in (len(prompt) + 17, 3):
        before = sequence.tokens[:kept]
        engine.rewind(sequence, kept)
        assert sequence.tokens == before
        engine.append(sequence, prompt)
        engine.generate(sequence, SpeechRule(model.layout, 30), GREEDY)
        tokens = tokens_of(outputs_until_done(engine, sequence), sequence)
        assert_likeliest(model, [*before, *prompt], tokens, SpeechRule(model.layout, 30))


def test_rewinding_while_tokens_are_generated_ends_them(engine: TokenEngine, model: SpeechModel) -> None:
    prompt = typed(model, "hello")
    sequence = asked(engine, prompt, SpeechRule(model.layout, 200))
    while not any(isinstance(o, Sampled) for o in engine.step()):
        pass
    engine.rewind(sequence, len(prompt))
    assert not tokens_of(read_all(engine), sequence)
    assert sequence.tokens == prompt


def test_a_stopped_answer_keeps_its_tokens_and_disturbs_nobody(engine: TokenEngine, model: SpeechModel) -> None:
    stopped = asked(engine, typed(model, "hello"), Endless(model.layout.spoken_start, model.layout.size))
    prompt = typed(model, "what is two plus three")
    other = asked(engine, prompt, SpeechRule(model.layout, 40))
    outputs: list[Sampled | TurnOpinion] = []
    while len(tokens_of(outputs, stopped)) < 5:
        outputs += engine.step()
    engine.stop(stopped)
    kept = list(stopped.tokens)
    assert kept[-len(tokens_of(outputs, stopped)) :] == tokens_of(outputs, stopped)
    late = outputs_until_done(engine, other)
    assert not tokens_of(late, stopped)
    assert stopped.tokens == kept
    assert_likeliest(model, prompt, tokens_of(outputs + late, other), SpeechRule(model.layout, 40))
    engine.append(stopped, typed(model, "and now"))
    engine.generate(stopped, SpeechRule(model.layout, 20), GREEDY)
    tokens = tokens_of(outputs_until_done(engine, stopped), stopped)
    assert_likeliest(model, [*kept, *typed(model, "and now")], tokens, SpeechRule(model.layout, 20))


# --- many at once, and too many --------------------------------------------------------------------------------------


def test_weights_of_8_bits_say_nearly_always_what_whole_ones_do(model: SpeechModel) -> None:
    prompts = [typed(model, f"what is {i} plus {i}") for i in range(20)]
    engine = TorchTokenEngine(model.transformer, model.layout, replace(CONFIG, weights="int8"))
    likeliest = []
    for prompt in prompts:
        rule = SpeechRule(model.layout, 40)
        tokens = said(engine, prompt, SpeechRule(model.layout, 40))
        with torch.inference_mode():
            logits = model.transformer(torch.tensor([[*prompt, *tokens]]))[0, len(prompt) - 1 :]
        for position, token in enumerate(tokens):
            allowed = rule.allowed()
            ids = [*range(allowed.start, allowed.stop), *allowed.also]
            likeliest.append(token == ids[int(logits[position, ids].argmax())])
            rule.accept(token)
    assert sum(likeliest) > 0.95 * len(likeliest)


def test_many_sessions_at_once_each_say_what_they_would_alone(engine: TokenEngine, model: SpeechModel) -> None:
    prompts = [typed(model, f"what is {i} plus {i}") for i in range(CONFIG.slots)]
    sequences, outputs = [], []
    for prompt in prompts:  # each begins while the others are under way
        sequences.append(asked(engine, prompt, SpeechRule(model.layout, 50)))
        outputs += engine.step() + engine.step()
    outputs += outputs_until_done(engine, *sequences)
    for prompt, sequence in zip(prompts, sequences, strict=True):
        assert_likeliest(model, prompt, tokens_of(outputs, sequence), SpeechRule(model.layout, 50))


def test_one_session_too_many_is_refused_until_a_place_is_free(engine: TokenEngine, model: SpeechModel) -> None:
    endless = Endless(model.layout.spoken_start, model.layout.size)
    busy = [asked(engine, typed(model, "hello"), endless) for _ in range(CONFIG.slots)]
    engine.step()
    with pytest.raises(EngineFull):
        engine.open()
    engine.close(busy[0])
    assert said(engine, typed(model, "hello"), SpeechRule(model.layout, 10))


def test_a_sequence_too_long_is_refused_and_stays_as_it_was(engine: TokenEngine, model: SpeechModel) -> None:
    sequence = engine.open()
    engine.append(sequence, [1, 2, 3])
    with pytest.raises(SequenceTooLong):
        engine.append(sequence, [1] * CONFIG.length)
    assert sequence.tokens == [1, 2, 3]


def test_an_endless_answer_ends_where_the_context_does_and_others_go_on(
    engine: TokenEngine, model: SpeechModel
) -> None:
    sequence = engine.open()
    engine.append(sequence, [7] * (CONFIG.length - CONFIG.prefill_tokens - 20))
    engine.generate(sequence, Endless(model.layout.spoken_start, model.layout.size), GREEDY)
    outputs = outputs_until_done(engine, sequence)
    assert [o.last for o in outputs if isinstance(o, Sampled)] == [False] * 19 + [True]
    assert len(sequence.tokens) == CONFIG.length - CONFIG.prefill_tokens
    read_all(engine)
    assert said(engine, typed(model, "hello"), SpeechRule(model.layout, 10))


def test_nothing_is_left_to_do_once_all_is_read_and_said(engine: TokenEngine, model: SpeechModel) -> None:
    sequence = asked(engine, typed(model, "hello"), SpeechRule(model.layout, 30))
    outputs_until_done(engine, sequence)
    read_all(engine)
    assert sequence.cached == len(sequence.tokens)
    assert engine.step() == []


# --- the speech engine on top ----------------------------------------------------------------------------------------


def _spoken_answer(engine: SpeechEngine) -> tuple[str, int]:
    engine.receive(OpenSession("s"))
    engine.receive(AddText("s", "q", "user", "What is the capital of France?"))
    engine.receive(Respond("s", "r", "a", max_tokens=120))
    events: list[Event] = []
    while not any(isinstance(e, ResponseDone) for e in events):
        events += engine.step()
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    return text, sum(len(e.pcm) for e in events if isinstance(e, AudioDelta))


def test_the_speech_engine_says_the_same_with_every_token_engine(engine: TokenEngine, model: SpeechModel) -> None:
    text, pcm_bytes = _spoken_answer(SpeechEngine(model, CONFIG, tokens=engine))
    assert (text, pcm_bytes) == _spoken_answer(SpeechEngine(model, CONFIG))
    assert text
    assert pcm_bytes > 0


# --- larger models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _KINDS)
def test_a_larger_random_model_is_loaded_and_streams(kind: str, tmp_path: Path) -> None:
    """`ANTIPHON_PARAMETERS=1e9 make test-vllm ARGS='-k larger -s'` tries one of a billion parameters."""
    parameters = float(os.environ.get("ANTIPHON_PARAMETERS", "2e7"))
    sizes = random_checkpoint(tmp_path / "larger", EMBEDDED, parameters, context=1024, seed=0)
    assert sizes.parameters == pytest.approx(parameters, rel=0.2)
    larger = load(tmp_path / "larger", transformer=kind == "torch")
    config = EngineConfig(kind=kind, slots=2, length=256)
    with contextlib.ExitStack() as stack:
        engine: TokenEngine
        if kind == "torch":
            engine = TorchTokenEngine(larger.transformer, larger.layout, config)
        else:
            from server.engine.vllm_engine import VllmTokenEngine

            started = VllmTokenEngine(tmp_path / "larger", larger.layout, config)
            stack.callback(started.shut_down)
            engine = started
        begun_s = time.perf_counter()
        tokens = said(engine, typed(larger, "hello"), SpeechRule(larger.layout, 24))
        spent_s = time.perf_counter() - begun_s
    ours, theirs = (
        resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"{kind}: {sizes.parameters:.2e} parameters, {len(tokens)} tokens in {spent_s:.1f} s; most memory of a process"
    )
    print(f"{ours:.1f} GiB (this one), {theirs:.1f} GiB (others)")
    assert sum(larger.layout.is_spoken(token) for token in tokens) >= SPEECH_RUN


# --- killed ----------------------------------------------------------------------------------------------------------


def _vllm_processes_of(pid: int) -> set[int]:
    """vLLM's engines, which are children of one of the threads of `pid`."""
    children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    return {c for c in children if "EngineCore" in Path(f"/proc/{c}/cmdline").read_text()}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", _KINDS)
async def test_a_killed_engine_is_reported_to_its_sessions(kind: str) -> None:
    engine = RemoteEngine(EMBEDDED, EngineConfig(kind=kind, slots=4, length=1024), 1)
    await engine.start()
    try:
        engine.send(OpenSession("s"))
        engine.send(AddText("s", "q", "user", "What is the capital of France?"))
        engine.send(Respond("s", "r1", "a1"))
        events = engine.subscribe("s")
        async for event in events:
            if isinstance(event, TextDelta):
                break
        [process] = [p for p in multiprocessing.active_children() if p.name == "antiphon-engine"]
        assert process.pid is not None
        [victim] = {process.pid} if kind == "torch" else _vllm_processes_of(process.pid)
        os.kill(victim, signal.SIGKILL)
        if kind == "torch":  # one process, and it is gone
            assert [e.code async for e in events if isinstance(e, SessionFailed)] == ["engine_unavailable"]
            with pytest.raises(EngineUnavailable):
                engine.send(Respond("s", "r2", "a2"))
            return
        async for event in events:
            if isinstance(event, SessionFailed):
                assert (event.code, event.fatal) == ("engine_restarted", False)
            if isinstance(event, ResponseDone):
                assert (event.response_id, event.status) == ("r1", "failed")
                break
        engine.send(Respond("s", "r2", "a2", max_tokens=40))  # the conversation is still there
        async for event in events:
            if isinstance(event, ResponseDone):
                assert (event.response_id, event.error) == ("r2", None)
                assert event.usage.input_text > 10
                break
        assert engine.alive
    finally:
        await engine.stop()


@_needs_vllm
def test_a_killed_vllm_goes_on_where_it_was(model: SpeechModel) -> None:
    from server.engine.vllm_engine import VllmTokenEngine

    others = _vllm_processes_of(os.getpid())
    engine = VllmTokenEngine(EMBEDDED, model.layout, CONFIG)
    try:
        prompts = [typed(model, "what is the capital of france"), typed(model, "what is two plus three")]
        sequences = [asked(engine, prompt, SpeechRule(model.layout, 60)) for prompt in prompts]
        outputs: list[Sampled | TurnOpinion] = []
        while len(tokens_of(outputs, sequences[0])) < 6:
            outputs += engine.step()
        [victim] = _vllm_processes_of(os.getpid()) - others
        os.kill(victim, signal.SIGKILL)
        while not engine.died:
            outputs += engine.step()
        with pytest.raises(EngineRestarted):
            engine.step()
        outputs += outputs_until_done(engine, *sequences)
        for prompt, sequence in zip(prompts, sequences, strict=True):
            assert_likeliest(model, prompt, tokens_of(outputs, sequence), SpeechRule(model.layout, 60))
    finally:
        engine.shut_down()


# --- vLLM's other runner, and no vLLM --------------------------------------------------------------------------------


@_needs_vllm
def test_on_the_newer_model_runner_a_request_keeps_its_range_and_the_ids_beside_it() -> None:
    from server.engine.vllm_ranges import AllowedRanges

    processor = AllowedRanges(None, SimpleNamespace(max_num_reqs=3, vocab_size=10, device="cpu"))
    for slot, args in ((2, {"allowed": [2, 4, 7, 9]}), (0, None)):
        processor.add_request(slot, SimpleNamespace(extra_args=args))
    context = SimpleNamespace(expanded_idx_mapping=torch.tensor([0, 2, 2]))
    logits = processor.apply(torch.zeros(3, 10), context)
    kept = [torch.isfinite(row).nonzero().flatten().tolist() for row in logits]
    assert kept == [list(range(10)), [2, 3, 7, 9], [2, 3, 7, 9]]


@pytest.mark.anyio
@pytest.mark.skipif(_HAS_VLLM, reason="vLLM is installed")
async def test_without_vllm_the_server_says_what_to_install() -> None:
    with pytest.raises(EngineUnavailable, match=r"pip install -e .*vllm"):
        await RemoteEngine(EMBEDDED, EngineConfig(kind="vllm"), 1).start()
