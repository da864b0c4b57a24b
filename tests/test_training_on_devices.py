"""What the training computes in its own way, so that a GPU need not wait, is what torch or a plain loop computes."""

import copy
import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import EMBEDDED
from model.audio_tokenizer import AudioTokenizerConfig
from model.layout import TokenLayout
from model.text_tokenizer import TextTokenizer
from model.training import augment, phones, sequences, tokenizer, transformer, voices
from model.training.corpus import Recording
from model.training.ctc import ctc, padded_labels
from model.training.recordings import ROW, WIDTHS, Recordings, Row
from model.training.run import Muon, Run, drawn, product_type
from model.training.tokenizer import DELAY
from model.training.transformer import Learner
from model.training.turns import Dialogue, Turn
from model.transformer import TransformerConfig


def test_ctc_is_torch_s() -> None:
    """Also with a label twice in a row; a row that no path fits into counts as nothing."""
    torch.manual_seed(0)
    targets: list[tuple[int, ...]] = [(1, 2, 3, 3, 5), (4,), (1, 1, 1, 1, 1, 1), (7, 8), ()]
    frames = torch.tensor([20, 9, 8, 20, 20])
    scores = torch.randn(5, 20, 9, requires_grad=True)
    labels, counts = padded_labels(targets)
    ours = ctc(scores.log_softmax(-1), frames, labels, counts)
    log_probs = scores.log_softmax(-1).transpose(0, 1)
    flat = torch.tensor([label for row in targets for label in row])
    losses = F.ctc_loss(log_probs, flat, frames, counts, 0, "none", zero_infinity=True)
    torchs = (losses / counts.clamp(min=1)).mean()
    assert losses[2] == 0
    torch.testing.assert_close(ours, torchs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in (ours, torchs)))


@pytest.mark.parametrize(("instructions", "tolerance"), [({"avx512_bf16": True}, None), ({}, 2e-3)])
def test_muon_is_torch_s(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool], tolerance: float | None
) -> None:
    """Which always computes in bfloat16; ours in 32 bits where that would take the processor thirty times as long."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert product_type() == (torch.bfloat16 if instructions else torch.float32)
    torch.manual_seed(0)
    shapes = ((8, 16), (16, 8), (8, 16))
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    torchs = [nn.Parameter(p.detach().clone()) for p in ours]
    for name, matrices in (("ours", ours), ("torchs", torchs)):
        torch.manual_seed(1)
        optimiser: torch.optim.Optimizer = (
            Muon(matrices, 0.01)
            if name == "ours"
            else torch.optim.Muon(matrices, 0.01, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        )
        for _ in range(3):
            for p in matrices:
                p.grad = torch.randn(p.shape)
            optimiser.step()
    for mine, theirs in zip(ours, torchs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.fixture
def recordings() -> Recordings:
    """Three tones; `b` begins in the middle of each."""
    pairs = []
    for i, samples in enumerate((16_000, 12_000, 14_000)):
        pcm = (8000 * np.sin(np.arange(samples) * (i + 1) / 20)).astype(np.int16)
        sounds = ((0, "a"), (samples // 2, "b"))
        pairs.append((Recording(f"line {i}", "v", "free", 0, samples, 16_000, sounds), pcm))
    return Recordings.of(pairs)


def _read(recordings: Recordings, *rows: Row, width: int = WIDTHS[1]) -> tuple[torch.Tensor, torch.Tensor]:
    return recordings.read(torch.from_numpy(recordings.numbers(list(rows))), width)


def test_a_row_of_a_batch_is_the_recording_behind_its_silence(recordings: Recordings) -> None:
    wave, sounds = _read(recordings, Row(1, lead=800), Row(2))
    plain = torch.from_numpy((8000 * np.sin(np.arange(12_000) / 10)).astype(np.int16)).float() / 32768
    torch.testing.assert_close(wave[0, 800 : 800 + 11_999], plain[:-1])
    assert not wave[0, :800].any()
    assert not wave[0, 12_800:].any()
    silence, a, b = (phones.sound_id(name) for name in ("_", "a", "b"))
    assert sounds[0].tolist()[:23] == [silence] * 2 + [a] * 19 + [b] * 2


def test_a_faster_row_is_shorter_and_higher(recordings: Recordings) -> None:
    wave, _ = _read(recordings, Row(0, speed=1.25))
    wanted = torch.sin(torch.arange(12_700) * 1.25 / 20) * 8000 / 32768
    torch.testing.assert_close(wave[0, 10:12_700], wanted[10:], atol=2e-4, rtol=0)
    assert not wave[0, 12_800:].any()


def test_a_pause_in_a_row_moves_what_follows(recordings: Recordings) -> None:
    whole, _ = _read(recordings, Row(0))
    paused, sounds = _read(recordings, Row(0, cut=4000, pause=6400), width=WIDTHS[2])
    assert not paused[0, 4000 : 4000 + 6400].any()
    torch.testing.assert_close(paused[0, :3800], whole[0, :3800])
    torch.testing.assert_close(paused[0, 10_600 : 10_600 + 9000], whole[0, 4200 : 4200 + 9000])
    silence, a, b = (phones.sound_id(name) for name in ("_", "a", "b"))
    assert sounds[0].tolist()[:46] == [a] * 12 + [silence] * 20 + [a] * 13 + [b]


def test_a_run_that_goes_on_learns_what_one_does_that_never_stopped(tmp_path: Path) -> None:
    rows = torch.randn(4, 8)

    def learn(folder: Path, net: nn.Linear, steps: int, at_rate: float) -> None:
        run = Run(folder, net, steps, 0.05, {}, warmup=1, matrices=[net.weight])
        run._rate = lambda: at_rate  # type: ignore[method-assign]
        for _ in run.steps():
            loss = net(rows).square().mean()
            run.update(loss, {"loss": loss})

    torch.manual_seed(0)
    whole = nn.Linear(8, 8)
    parts = copy.deepcopy(whole)
    learn(tmp_path / "whole", whole, 4, 0.05)
    learn(tmp_path / "parts", parts, 2, 0.05)
    learn(tmp_path / "parts", parts, 4, 0.05)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_noise_and_other_throats_keep_shape_and_are_different_for_each_row() -> None:
    torch.manual_seed(0)
    wave = torch.sin(torch.arange(16_000) / 9).repeat(64, 1) / 4
    noisy = augment.noise(wave)
    assert noisy.shape == wave.shape
    assert torch.isfinite(noisy).all()
    # What is left of each row without the tone: nothing in some rows, and as much as the tone in others.
    tones = torch.stack([wave[0], torch.cos(torch.arange(16_000) / 9)])
    tones = tones / tones.norm(dim=1, keepdim=True)
    left = (noisy - noisy @ tones.T @ tones).norm(dim=1) / noisy.norm(dim=1)
    assert 5 < int((left < 0.02).sum()) < 50
    assert float(left.max()) > 0.3
    mel = torch.randn(8, 80, 100)
    assert augment.spectrum(mel).shape == mel.shape


def test_another_tempo_moves_sounds_with_their_spectrum() -> None:
    torch.manual_seed(0)
    sounds = torch.arange(100).div(10, rounding_mode="floor").expand(40, -1)  # ten sounds of 200 ms
    mel = sounds.repeat_interleave(2, 1).float()[:, None].expand(-1, 3, -1)
    moved, labels = augment.tempo(mel, sounds)
    assert moved.shape == mel.shape
    assert labels.shape == sounds.shape
    # What is seen is what is told, but where one sound passes into the next.
    assert ((moved[:, 1, 0::2] + moved[:, 1, 1::2]) / 2 - labels).abs().gt(0.5).float().mean() < 0.02
    assert labels[:, 0].eq(0).all()
    assert labels[:, -1].eq(9).all()
    same = (labels == sounds).all(1)
    assert 10 < same.sum() < 30
    lengths = torch.stack([(labels[~same] == sound).sum(1) for sound in range(10)])
    assert lengths.min() < 9
    assert lengths.max() > 12


@pytest.mark.parametrize(("far", "least", "most"), [(False, 0.87, 1.15), (True, 0.74, 1.33)])
def test_a_far_throat_is_stretched_more_than_others(far: bool, least: float, most: float) -> None:
    torch.manual_seed(0)
    ramp = torch.arange(80.0).view(1, 80, 1).expand(64, 80, 50).contiguous()  # a band's value is where it was before
    bands = slice(10, 55)
    stretch = (augment.spectrum(ramp, far) / ramp)[:, bands].flatten(1).median(1).values
    assert least - 0.03 < float(stretch.min()) < float(stretch.max()) < most + 0.03
    assert bool(((stretch - 1).abs() > 0.1).all()) == far


@pytest.fixture
def small_learner() -> Learner:
    torch.manual_seed(0)
    layout = TokenLayout()
    config = TransformerConfig(layout.size, hidden_size=32, num_hidden_layers=1, intermediate_size=32)
    return Learner(config, layout, torch.rand(layout.heard, 20))


@pytest.fixture
def typed() -> sequences.Sequences:
    drawn = sequences.Sequences(TokenLayout(), TextTokenizer.load(EMBEDDED / "tokenizer.json"))
    drawn.dialogues = [Dialogue((Turn("sums", "One two.", "Two.", "two"),))]
    drawn.fill([], [("Two.", "answer", np.arange(100, 116, dtype=np.int16), np.arange(16, dtype=np.int16))])
    return drawn


def test_room_for_more_answers_changes_no_loss(small_learner: Learner, typed: sequences.Sequences) -> None:
    mix = {"typed": 0.5, "dialogue": 0.5}
    exact, padded = (next(transformer.batches(typed, "a seed", mix, 400, fixed)) for fixed in (False, True))
    assert exact[0][:2] == padded[0][:2]
    assert len(exact[1]) < len(padded[1])
    (loss, parts), (same_loss, same_parts) = small_learner.loss(*exact), small_learner.loss(*padded)
    torch.testing.assert_close(loss, same_loss)
    torch.testing.assert_close(parts, same_parts)


def test_the_loss_of_text_is_that_of_each_next_token(
    small_learner: Learner, typed: sequences.Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = transformer.QUESTIONS["text"]._replace(share=1.0)  # and not at some places of a batch that has many
    monkeypatch.setitem(transformer.QUESTIONS, "text", everywhere)
    (rows, width, *_), numbers = next(transformer.batches(typed, "another", {"typed": 1.0}, 200))
    tokens = numbers[: rows * width].view(rows, width).long()
    rng = random.Random("another")
    drawn: dict[tuple[int, ...], sequences.Sequence] = {}
    while len(drawn) < 400:
        sequence = typed.draw(rng, {"typed": 1.0})
        drawn[tuple(sequence.tokens)] = sequence
    losses = []
    for row in tokens:
        begun = [s for s in drawn.values() if tuple(row[: len(s.tokens)].tolist()) == tuple(s.tokens)]
        sequence = max(begun, key=lambda s: len(s.tokens))  # one may be the beginning of another
        hidden = small_learner.transformer.hidden(F.embedding(row, small_learner.embeddings())[None])[0]
        for at, target in enumerate(sequence.targets):
            if target == sequences.TEXT:
                scores = hidden[at] @ small_learner.pieces_out.T
                losses.append(F.cross_entropy(scores, torch.tensor(sequence.tokens[at + 1])))
    torch.testing.assert_close(small_learner.loss((rows, width, *_), numbers)[1]["text"], torch.stack(losses).mean())


def test_a_recogniser_learns_and_its_run_goes_on(
    tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phones, "phone_ids", lambda text: (1, 2, 3))
    monkeypatch.setattr(tokenizer.Recordings, "in_folder", lambda _: recordings)
    monkeypatch.setattr(tokenizer, "_BATCH_SECONDS", 5.0)
    torch.manual_seed(0)
    net = tokenizer.Recogniser(AudioTokenizerConfig(channels=32, blocks=2, heads=2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tokenizer.train(tmp_path, tmp_path / "run", net, 2)
    assert not torch.equal(net.state_dict()["local.0.weight"], before["local.0.weight"])
    steps = 0

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return loss(*arguments)

    loss = tokenizer.recogniser_loss
    monkeypatch.setattr(tokenizer, "recogniser_loss", counted)
    tokenizer.train(tmp_path, tmp_path / "run", net, 3)
    assert steps == 1
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3


def test_the_tokenizer_never_hears_the_strangers(recordings: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phones, "phone_ids", lambda text: (1, 2, 3))
    strange = replace(recordings.about[1], voice=f"{voices.STRANGERS}-rab")
    monkeypatch.setattr(recordings, "about", [recordings.about[0], strange, recordings.about[2]])
    heard = set()
    for (rows, _), numbers in itertools.islice(tokenizer.batches(recordings, random.Random(1), 5.0), 20):
        heard |= {int(samples) for samples in numbers[: rows * ROW].view(rows, ROW)[:, 2]}
    assert heard == {16_000, 14_000}


def test_heard_rows_are_codes_with_the_end_and_the_words(
    recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "sounds_of", lambda word: [0])
    net = tokenizer.Recogniser(AudioTokenizerConfig(channels=32, blocks=2, heads=2)).eval().requires_grad_(False)
    rows = sequences.heard_rows(recordings, net.tokenizer, 1, "seed")
    assert sorted(text for text, *_ in rows) == ["line 0", "line 1", "line 2"]
    monkeypatch.setattr(sequences, "_CLEAN_SHARE", 1.0)
    monkeypatch.setattr(sequences, "_HESITANT_SHARE", 0.0)
    [row] = [row for row in sequences.heard_rows(recordings, net.tokenizer, 0, "seed") if row[0] == "line 1"]
    end, (before, first, last) = row[3], row[4]
    assert end - 1 - (12_000 // 640) in (0, 1, *range(10))  # behind at most 0.4 s of silence
    assert last - DELAY in range(end - 2, end + 1)  # the last word ends where the recording does
    assert 12_000 // 2 // 640 - 1 <= last - first <= 12_000 // 2 // 640 + 1  # and has half of its sounds
    assert before < first
    for _, kind, codes, end, words, speaker in rows:
        assert (kind, speaker) == ("free", "v 1")
        assert codes.dtype == np.int16
        assert end < len(codes)
        assert len(words) == 3
        assert words == sorted(words)


def test_what_other_processes_draw_comes_as_they_made_it() -> None:
    source = drawn(lambda worker: iter([((3, worker), torch.ones(2))]), 1)
    kind, numbers = next(source)
    assert kind == (3, 0)  # a list could not name a graph
    assert numbers.tolist() == [1, 1]
