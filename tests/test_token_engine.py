"""The token engine's properties: batched is alone, rewound is never said, the same seed gives the same tokens."""

import pytest

from model.checkpoint import SpeechModel
from server.engine.engine_config import EngineConfig
from server.engine.rules import SpeechRule, TextRule
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import Sampled, Sampling, TokenSequence, TurnOpinion
from server.errors import EngineFull, SequenceTooLong

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
