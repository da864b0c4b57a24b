"""The token engine's properties: batched is alone, rewound is never said, the same seed gives the same tokens."""

import itertools

import pytest
import torch

from model.cached_transformer import KVCache
from model.checkpoint import SpeechModel
from model.layout import TokenLayout
from model.transformer import TransformerConfig
from server.engine.beam_search import BeamSearch
from server.engine.engine_config import EngineConfig
from server.engine.rules import SpeechRule, TextRule
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import Allowed, Sampled, Sampling, TokenSequence, TurnOpinion
from server.errors import EngineFull, SequenceTooLong
from tests.tiny_model import wavering_model

CONFIG = EngineConfig(weights="float32", slots=4, length=512, prefill_tokens=16)


@pytest.fixture
def engine(tiny: SpeechModel) -> TorchTokenEngine:
    return TorchTokenEngine(tiny.transformer, tiny.layout, CONFIG)


def _generate(
    engine: TorchTokenEngine, prompts: list[list[int]], sampling: Sampling, count: int = 20
) -> list[list[int]]:
    sequences = []
    for prompt in prompts:
        sequence = engine.open()
        engine.append(sequence, prompt)
        engine.generate(sequence, SpeechRule(engine.layout, count), sampling)
        sequences.append(sequence)
    said = _drain(engine, sequences)
    for sequence in sequences:
        engine.close(sequence)
    return said


def _drain(engine: TorchTokenEngine, sequences: list[TokenSequence]) -> list[list[int]]:
    said: dict[int, list[int]] = {id(s): [] for s in sequences}
    for _ in range(500):
        for output in engine.step():
            if isinstance(output, Sampled) and id(output.sequence) in said:
                said[id(output.sequence)].append(output.token)
        if all(s.rule is None for s in sequences):
            return [said[id(s)] for s in sequences]
    raise AssertionError("the engine did not finish")


def test_sequences_together_say_what_each_says_alone(engine: TorchTokenEngine) -> None:
    prompts = [[1, 2, 3], [5] * 40, [7, 8]]
    together = _generate(engine, prompts, Sampling())
    assert together == [_generate(engine, [prompt], Sampling())[0] for prompt in prompts]


def test_the_same_seed_says_the_same_and_another_does_not(engine: TorchTokenEngine) -> None:
    def said(seed: int) -> list[list[int]]:
        return _generate(engine, [[1, 2, 3]], Sampling(1.0, 1.0, seed))

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_what_was_rewound_was_never_said(engine: TorchTokenEngine) -> None:
    sequence = engine.open()
    engine.append(sequence, [1, 2, 3])
    engine.generate(sequence, TextRule(engine.layout, 12), Sampling())
    _drain(engine, [sequence])
    engine.rewind(sequence, 3)
    engine.append(sequence, [9])
    engine.generate(sequence, SpeechRule(engine.layout, 20), Sampling())
    assert _drain(engine, [sequence]) == _generate(engine, [[1, 2, 3, 9]], Sampling())


def test_tokens_appended_in_pieces_are_read_like_one_prompt(engine: TorchTokenEngine) -> None:
    sequence = engine.open()
    for piece in ([1, 2], [3, 4, 5], [6]):
        engine.append(sequence, piece)
        engine.step()
    engine.generate(sequence, SpeechRule(engine.layout, 20), Sampling())
    engine.append(sequence, [7])
    assert _drain(engine, [sequence]) == _generate(engine, [[1, 2, 3, 4, 5, 6, 7]], Sampling())


def test_stopping_ends_generation_within_the_step(engine: TorchTokenEngine) -> None:
    sequence = engine.open()
    engine.append(sequence, [1])
    engine.generate(sequence, SpeechRule(engine.layout), Sampling())
    engine.step()
    engine.stop(sequence)
    assert not any(isinstance(output, Sampled) for output in engine.step())


def test_after_a_heard_token_the_engine_says_how_likely_the_turn_is_over(engine: TorchTokenEngine) -> None:
    sequence = engine.open()
    engine.append(sequence, [engine.layout.control("<user>"), engine.layout.heard_start + 5])
    [opinion] = engine.step()
    assert isinstance(opinion, TurnOpinion)
    assert 0 < opinion.probability < 1


def test_answers_follow_the_interleaving(engine: TorchTokenEngine) -> None:
    [tokens] = _generate(engine, [[1, 2]], Sampling(1.0, 1.0, 3), count=60)
    layout = engine.layout
    text_end = tokens.index(layout.control("<text_end>")) if layout.control("<text_end>") in tokens else len(tokens)
    kinds = "".join("s" if layout.is_spoken(t) else "t" for t in tokens[:text_end])
    assert kinds == ("tttt" + "ssssssssttt" * 10)[: len(kinds)]
    assert all(layout.is_spoken(t) or t == layout.control("<end>") for t in tokens[text_end + 1 :])


def test_a_full_engine_and_a_full_sequence_are_refused(engine: TorchTokenEngine) -> None:
    sequences = [engine.open() for _ in range(CONFIG.slots)]
    with pytest.raises(EngineFull):
        engine.open()
    with pytest.raises(SequenceTooLong):
        engine.append(sequences[0], [1] * CONFIG.length)
    assert sequences[0].tokens == []
    engine.close(sequences[0])
    engine.open()


# --- searching for a whole text ------------------------------------------------------------------------------------

_LETTERS = 4


class Letters(TextRule):
    """Texts of a few letters, so that a test can look at all of them: up to `longest`, or just as long."""

    def __init__(self, layout: TokenLayout, longest: int, ends: bool = False) -> None:
        super().__init__(layout, longest)
        self._text, self._ends = _LETTERS, ends

    def allowed(self) -> Allowed:
        return super().allowed() if self._ends else Allowed(0, _LETTERS)


@pytest.fixture(scope="module")
def wavering() -> SpeechModel:
    return wavering_model()


def _asked(
    engine: TorchTokenEngine, prompt: list[int], hypotheses: int, longest: int = 8, ends: bool = False
) -> TokenSequence:
    sequence = engine.open()
    engine.append(sequence, prompt)
    engine.generate(sequence, Letters(engine.layout, longest, ends), Sampling(hypotheses=hypotheses))
    return sequence


def _log_probability(model: SpeechModel, prompt: list[int], text: list[int]) -> float:
    """Of a text of letters, by the plain Transformer."""
    ids = [*range(_LETTERS), model.layout.control("<end>")]
    with torch.inference_mode():
        logits = model.transformer(torch.tensor([[*prompt, *text]]))[0, len(prompt) - 1 : -1, ids]
    chosen = torch.tensor([ids.index(token) for token in text])
    return float(logits.log_softmax(-1)[torch.arange(len(text)), chosen].sum())


def test_a_search_wide_enough_finds_the_likeliest_of_all_texts(wavering: SpeechModel) -> None:
    longest = 3
    config = EngineConfig(weights="float32", slots=4, length=128, prefill_tokens=16, hypotheses=_LETTERS**longest)
    engine, end = TorchTokenEngine(wavering.transformer, wavering.layout, config), wavering.layout.control("<end>")
    letters = range(_LETTERS)
    ended = [[*text, end] for n in range(longest) for text in itertools.product(letters, repeat=n)]
    texts = [*ended, *map(list, itertools.product(letters, repeat=longest))]  # some are cut off
    likeliest = []
    for first in range(12):
        prompt = [first, 40, 50 + first]
        [found] = _drain(engine, [searched := _asked(engine, prompt, config.hypotheses, longest, True)])
        [taken] = _drain(engine, [plain := _asked(engine, prompt, 1, longest, True)])
        assert found == max(texts, key=lambda text: _log_probability(wavering, prompt, text))
        likeliest.append(taken == found)
        engine.close(searched)
        engine.close(plain)
    assert not all(likeliest)  # else a search would be good for nothing


def test_after_a_search_the_cache_holds_what_was_found_as_if_it_had_been_given(
    wavering: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TorchTokenEngine(wavering.transformer, wavering.layout, CONFIG)
    copied: list[tuple[int, int]] = []
    monkeypatch.setattr(
        engine._cache, "copy", lambda *a, copy=engine._cache.copy: (copied.append((a[0], a[1])), copy(*a))
    )
    for first in range(20):
        prompt = [first, *range(20, 20 + 2 * first)]
        sequence = _asked(engine, prompt, 4)
        [found] = _drain(engine, [sequence])
        assert sequence.tokens == [*prompt, *found]
        assert sequence.pending == 1
        given = engine.open()
        engine.append(given, sequence.tokens[:-1])
        while given.pending:
            engine.step([given])
        for kept in (engine._cache.keys.transpose(-1, -2), engine._cache.values):
            rows = [kept[:, s.slot, :, : sequence.cached] for s in (sequence, given)]
            torch.testing.assert_close(*rows)
        engine.close(sequence)
        engine.close(given)
    own = {source for source, target in copied if target < CONFIG.slots}
    assert own - set(range(CONFIG.slots))  # at times the likeliest text was in another row than the sequence's


def test_a_hypothesis_without_hope_is_not_followed() -> None:
    def search(gap: float) -> BeamSearch:
        cache = KVCache(TransformerConfig(vocab_size=8, num_hidden_layers=1), 5, 16)
        sequence = TokenSequence(0, [1], 1, rule=Letters(TokenLayout(), 8, ends=True))
        found = BeamSearch(sequence, range(1, 5), cache, 16)
        found.hypotheses[0].consider(Allowed(0, 4), torch.tensor([0.0, -1.0, -gap, -9.0]))
        assert found.choose() is None
        return found

    assert [one.tokens[-1] for one in search(1.9).hypotheses] == [0, 1, 2]
    assert [one.tokens[-1] for one in search(2.1).hypotheses] == [0, 1]


def test_searches_at_once_find_what_each_finds_alone(wavering: SpeechModel) -> None:
    engine = TorchTokenEngine(wavering.transformer, wavering.layout, CONFIG)
    prompts = [[1, 2, 3], [5] * 40, [7, 8], [9, 10, 11, 12]]
    alone = []
    for prompt in prompts:
        alone += _drain(engine, [sequence := _asked(engine, prompt, 4)])
        engine.close(sequence)
    assert _drain(engine, [_asked(engine, prompt, 4) for prompt in prompts]) == alone


def test_without_room_for_a_search_the_likeliest_tokens_are_taken_until_there_is(wavering: SpeechModel) -> None:
    engine = TorchTokenEngine(wavering.transformer, wavering.layout, CONFIG)
    [greedy] = _drain(engine, [plain := _asked(engine, [1, 2, 3], 1)])
    engine.close(plain)
    held, engine._spare = engine._spare, []
    crowded = _asked(engine, [1, 2, 3], 4)
    for _ in range(3):
        engine.step()
    engine._spare = held
    [rest] = _drain(engine, [crowded])
    assert crowded.tokens[3:6] == greedy[:3]
    assert crowded.tokens[6:] == rest
    assert len(rest) > 1


@pytest.mark.parametrize("end", ["stop", "close", "rewind", "append", "generate"])
def test_a_search_that_ends_early_leaves_nothing_behind(wavering: SpeechModel, end: str) -> None:
    engine = TorchTokenEngine(wavering.transformer, wavering.layout, CONFIG)
    sequence = _asked(engine, [1, 2, 3], 4)
    assert [engine.step() for _ in range(3)] == [[]] * 3  # it has begun
    if end in ("append", "generate"):
        engine.append(sequence, [4])
    elif end == "rewind":
        engine.rewind(sequence, 2)
    else:
        getattr(engine, end)(sequence)
    if end == "close":
        sequence = engine.open()
    engine.append(sequence, [7, 8])
    prompt = list(sequence.tokens)
    engine.generate(sequence, SpeechRule(engine.layout, 20), Sampling())
    [said] = _drain(engine, [sequence])
    engine.close(sequence)
    assert [said] == _generate(engine, [prompt], Sampling())
    assert len(set(engine._spare)) == 4 * CONFIG.hypotheses
