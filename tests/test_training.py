"""Parts of the training that decide what the model learns; the training itself is measured by `antiphon eval`."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model.audio_tokenizer import AudioTokenizer, AudioTokenizerConfig
from model.training import sequences
from model.training.corpus import Recording
from model.training.run import Run, in_parallel, rank
from model.training.transformer import FactoredCodes

WORDS = {"one": 3, "two": 2, "three": 3}


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Three words of eight sounds, 1000 samples each."""
    monkeypatch.setattr(sequences, "sounds_of", lambda word: list(range(WORDS[word])))
    return Recording("one two three", "v", "free", 0, 8000, 16_000, tuple((1000 * i, "a") for i in range(8)))


def test_a_word_ends_with_its_last_sound(recording: Recording) -> None:
    assert sequences.word_ends(recording) == [3000, 5000, 8000]


@pytest.mark.parametrize("seed", range(6))
def test_a_pause_lies_behind_a_word_and_moves_what_follows(recording: Recording, seed: int) -> None:
    pcm = np.full(8000, 1000, np.int16)
    moved, longer = sequences.hesitant(recording, pcm, random.Random(seed))
    pause = len(longer) - 8000
    assert 0.3 * 16_000 <= pause <= 16_000
    assert moved.samples == len(longer)
    ends = sequences.word_ends(moved)
    at = ends[0] if ends[1] > 5000 else ends[1]
    assert ends in ([3000, 5000 + pause, 8000 + pause], [3000, 5000, 8000 + pause])
    assert not longer[at : at + pause].any()
    assert longer[: at - 200].all()
    assert longer[at + pause + 200 :].all()


def test_a_tokenizer_that_has_grown_hears_what_it_heard_before() -> None:
    torch.manual_seed(0)
    small = AudioTokenizer(AudioTokenizerConfig(channels=32, blocks=2)).eval()
    large = AudioTokenizer(AudioTokenizerConfig(channels=32, blocks=4)).eval()
    large.grow_from(small.state_dict())
    sound = torch.randn(2, 8000) / 10
    assert torch.equal(small.encode(sound), large.encode(sound))
    with pytest.raises(ValueError, match="at most 2 blocks"):
        small.grow_from(large.state_dict())


def test_a_table_of_codes_takes_the_values_it_is_given() -> None:
    torch.manual_seed(0)
    codes, wanted = FactoredCodes(8, 0.02), torch.randn(4096, 8)
    codes.become(wanted)
    assert torch.allclose(codes.table(), wanted, atol=1e-5)
    assert float(codes.rest.detach().square().mean()) < float(wanted.square().mean())


def _fit(folder: Path, net: nn.Linear, rows: list[torch.Tensor]) -> None:
    run = Run(folder, net, 5, 0.1, {}, warmup=1)
    for _ in run.steps():
        loss = net(rows[rank()]).square().mean()
        run.update(loss, {"loss": loss.item()})


def test_processes_that_train_together_learn_what_one_learns_from_all(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, rows = nn.Linear(3, 1), torch.randn(2, 4, 3)
    in_parallel(2, _fit, tmp_path / "two", net, [rows[0], rows[1]])
    before = net.weight.detach().clone()
    _fit(tmp_path / "one", net, [rows.flatten(0, 1)])
    assert not torch.allclose(net.weight, before)
    learnt = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)["network"]
    torch.testing.assert_close(learnt, dict(net.state_dict()))
