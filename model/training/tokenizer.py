"""Stage `tokenizer`: train the audio tokenizer inside a recogniser of phones.

The codes must carry what was said and nothing of who said it. Two teachers: CTC (Graves et al. 2006) on the phones of
the text, for every voice; and, for the voices whose synthesiser says when each sound begins, cross-entropy on every
20 ms, which teaches far faster. Both are read twice, straight from each code and through two more causal blocks. A
little of the clean spectrum is asked for as well, for timing and energy.
"""

import collections
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.audio_tokenizer import DELAY_TOKENS, TOKEN_SAMPLES, AudioTokenizer, AudioTokenizerConfig
from model.checkpoint import CheckpointError, load, load_weights
from model.streaming import ConvNeXtBlock, Stack
from model.training import augment, corpus, people, phones, voices
from model.training.ctc import ctc
from model.training.recordings import FRAME_SAMPLES, ROW, Recordings, Row, width_for
from model.training.run import Graphs, Run, mixed_precision, on_gpu, rank

FRAMES_PER_TOKEN = TOKEN_SAMPLES // FRAME_SAMPLES  # phones are read at 50 Hz, so that two may share a code
DELAY = DELAY_TOKENS - 1  # a code is about the sound so many tokens ago, and has heard what came after
_BATCH_SECONDS, _GPU_BATCH_SECONDS = 64.0, 768.0
_LABEL_SAMPLES = TOKEN_SAMPLES  # the most phones that a batch has room for: one in so many samples
_TAIL_S = 0.32  # silence after each recording: the encoder may run this far behind
# Families whose recordings are learnt from more than once while the others are once: there are few of them, and they
# are more like people. And strangers must stay strangers.
_TIMES = {"kokoro": 4, people.FAMILY: 3, voices.STRANGERS: 0}

# What hears. Larger ones read fewer phones of people wrongly, of synthetic strangers as many (model/README.md).
EARS = AudioTokenizerConfig(early_blocks=2, blocks=16)
# Beside a model: the heads of the recogniser that its tokenizer was taught in.
RECOGNISER = "recogniser.safetensors"


class Reading(NamedTuple):
    """Log-probabilities at 50 Hz."""

    phones: Tensor
    """[B, 2 T, phones.SIZE]: blank first, for CTC."""
    sounds: Tensor
    """[B, 2 T, len(phones.SOUNDS)]."""

    @classmethod
    def of(cls, outputs: Tensor) -> "Reading":
        """Outputs of a head [B, T, 2 (phones + sounds)]."""
        batch, tokens, _ = outputs.shape
        outputs = outputs.float().reshape(batch, tokens * FRAMES_PER_TOKEN, -1)
        return cls(outputs[..., : phones.SIZE].log_softmax(-1), outputs[..., phones.SIZE :].log_softmax(-1))


class Recogniser(nn.Module):
    """The tokenizer, and the heads that tell it what to listen for."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.tokenizer = AudioTokenizer(config)
        c, d = config.channels, len(config.levels)
        outputs = FRAMES_PER_TOKEN * (phones.SIZE + len(phones.SOUNDS))
        self.local = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, c), nn.GELU(), nn.Linear(c, outputs))
        self.lift = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, c))
        self.context = Stack([ConvNeXtBlock(c, 9, 2) for _ in range(2)])
        self.context_out = nn.Linear(c, outputs)
        self.spectrum = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, 80))

    def quantise(self, mel: Tensor) -> Tensor:
        """Log-mel [B, 80, 4 T] -> quantised latents [B, T, D]."""
        state = self.tokenizer.encoder.initial_state(mel.shape[0])
        return self.tokenizer.quantise(mel, state)[0]

    @torch.no_grad()
    def meanings(self) -> Tensor:
        """What is heard in each code by itself: probabilities [codes, 2 (phones + sounds)]."""
        fsq = self.tokenizer.fsq
        codes = torch.arange(self.tokenizer.config.codebook_size)
        reading = Reading.of(self.local(fsq.values(codes).unsqueeze(1)))
        return torch.cat([reading.phones.exp(), reading.sounds.exp()], -1).flatten(1)

    def read(self, latents: Tensor) -> tuple[Reading, Reading]:
        """What is heard straight from each code of latents [B, T, D], and with its past."""
        lifted = self.lift(latents).transpose(1, 2)
        context = self.context(lifted, self.context.initial_state(latents.shape[0]))[0].transpose(1, 2)
        return Reading.of(self.local(latents)), Reading.of(self.context_out(context))


def load_recogniser(folder: Path) -> Recogniser:
    """The recogniser that the tokenizer of a model was taught in, for listening only.

    Raises `CheckpointError`, and `FileNotFoundError` where its heads were not kept.
    """
    tokenizer = load(folder, transformer=False).tokenizer
    net = Recogniser(tokenizer.config)
    missing = net.load_state_dict(load_weights(folder / RECOGNISER), strict=False).missing_keys
    heads = [name for name in missing if not name.startswith("tokenizer.")]
    if heads:
        raise CheckpointError(f"{folder / RECOGNISER}: expected {heads[0]}, found none")
    net.tokenizer.load_state_dict(tokenizer.state_dict())
    return net.eval().requires_grad_(False)


def frame_loss(log_probs: Tensor, sounds: Tensor) -> Tensor:
    """Cross-entropy of log-probabilities [B, 2 T, S] against the sounds [B, 2 T] of the audio; 0 if none is known."""
    delay = DELAY * FRAMES_PER_TOKEN
    wanted = sounds[:, :-delay].flatten()
    total = F.nll_loss(log_probs[:, delay:].flatten(0, 1), wanted, ignore_index=phones.UNKNOWN_SOUND, reduction="sum")
    return total / (wanted != phones.UNKNOWN_SOUND).sum().clamp(min=1)


Kind = tuple[int, int]
"""Rows of a batch, and samples of each."""


def batches(recordings: Recordings, rng: random.Random, seconds: float) -> Iterator[tuple[Kind, Tensor]]:
    """Endless batches of so many seconds: what `Recordings.read` wants of each row [B, ROW], its valid tokens, how many
    phones it has and which [B, width / 640], all of them int32 in one dimension."""
    waiting: dict[int, list[tuple[Row, int]]] = collections.defaultdict(list)
    times = [_TIMES.get(recording.voice.partition("-")[0], 1) for recording in recordings.about]
    spoken = [phones.phone_ids(recording.text) for recording in recordings.about]
    while True:
        order = [which for which, n in enumerate(times) for _ in range(n)]
        rng.shuffle(order)
        for which in order:
            speed = 1.0 if rng.random() < 0.35 else rng.uniform(0.83, 1.2)
            row = Row(which, speed, int(corpus.HEARD_HZ * rng.uniform(0.0, 0.3)))
            samples = (recordings.samples[which] + row.lead) / speed + _TAIL_S * corpus.HEARD_HZ
            width = width_for(samples)
            if width is None or len(spoken[which]) > width // _LABEL_SAMPLES:
                continue
            waiting[width].append((row, int(samples) // TOKEN_SAMPLES))
            if len(waiting[width]) < max(2, int(seconds * corpus.HEARD_HZ / width)):
                continue
            rows, tokens = zip(*waiting.pop(width), strict=True)
            labels = np.zeros((len(rows), 2 + width // _LABEL_SAMPLES), np.int32)
            labels[:, 0] = tokens
            for i, row in enumerate(rows):
                known = spoken[row.which]
                labels[i, 1], labels[i, 2 : 2 + len(known)] = len(known), known
            numbers = np.concatenate([recordings.numbers(list(rows)).ravel(), labels.ravel()])
            yield (len(rows), width), torch.from_numpy(numbers)


def recogniser_loss(
    net: Recogniser, recordings: Recordings, kind: Kind, numbers: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one of `batches`, and its parts for the log."""
    count, width = kind
    rows, known = numbers[: count * ROW].view(count, ROW), numbers[count * ROW :].view(count, -1).long()
    log_mel = net.tokenizer.log_mel
    with torch.no_grad():
        pcm, sounds = recordings.read(rows, width)
        state = log_mel.initial_state(count)
        clean, noisy = log_mel(pcm, state)[0], log_mel(augment.noise(pcm), state)[0]
        both, sounds = augment.tempo(torch.cat([clean, noisy], 1), sounds)
        clean, mel = both.chunk(2, 1)
        mel = augment.spectrum(mel)
    with mixed_precision():
        latents = net.quantise(mel)
        local, context = net.read(latents)
        spectrum = net.spectrum(latents)[:, DELAY:].float()
    counts = known[:, 1]
    most = None if on_gpu() else int(counts.max())  # a graph has room for any of them
    phones_known = known[:, 0] * FRAMES_PER_TOKEN, known[:, 2:][:, :most], counts
    ctc_local, ctc_context = (ctc(reading.phones, *phones_known) for reading in (local, context))
    sounds_local, sounds_context = (frame_loss(reading.sounds, sounds) for reading in (local, context))
    wanted = F.avg_pool1d(clean, 4).transpose(1, 2)[:, :-DELAY]  # [B, T - DELAY, 80]
    loss_spectrum = F.l1_loss(spectrum, wanted)
    loss = ctc_context + 0.3 * ctc_local + sounds_local + 0.5 * sounds_context + 0.3 * loss_spectrum
    return loss, {
        "ctc": ctc_context,
        "ctc_local": ctc_local,
        "sounds": sounds_context,
        "sounds_local": sounds_local,
        "spectrum": loss_spectrum,
    }


def train(data: Path, run_folder: Path, net: Recogniser, steps: int, seed: int = 0) -> Recogniser:
    """Train `net` on the `heard` recordings under `data`."""
    torch.manual_seed(1000 * seed + rank())
    recordings = Recordings.in_folder(data / "heard")
    hours = float(recordings.samples.sum()) / corpus.HEARD_HZ / 3600
    settings = {"recordings": len(recordings), "audio_hours": hours, "seed": seed}
    matrices = [p for m in net.modules() if isinstance(m, nn.Linear) for p in m.parameters() if p.ndim == 2]
    run = Run(run_folder, net, steps, 2e-3, settings, matrices=matrices)
    seconds = _GPU_BATCH_SECONDS if on_gpu() else _BATCH_SECONDS
    source = batches(recordings, random.Random(f"{seed} {run.step} {rank()}"), seconds)
    step = Graphs(lambda kind, numbers: run.learn(*recogniser_loss(net, recordings, kind, numbers)))
    for _ in run.steps():
        run.count(step(*next(source)))
    return net
