"""Stage `tokenizer`: train the audio tokenizer inside a recogniser of phones.

The codes must carry what was said and nothing of who said it. Two teachers: CTC (Graves et al. 2006) on the phones of
the text, for every voice; and, for the voices whose synthesiser says when each sound begins, cross-entropy on every
20 ms, which teaches far faster. Both are read twice, straight from each code and through two more causal blocks. A
little of the clean spectrum is asked for as well, for timing and energy.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from model.audio_tokenizer import DELAY_TOKENS, TOKEN_SAMPLES, AudioTokenizer, AudioTokenizerConfig
from model.checkpoint import CheckpointError, load
from model.streaming import ConvNeXtBlock, Stack
from model.training import augment, corpus, phones
from model.training.run import GPU_WORKERS, Run, by_length, drawn, mixed_precision, on_gpu, rank

FRAMES_PER_TOKEN = 2  # phones are read at 50 Hz, so that two may share a code
FRAME_SAMPLES = TOKEN_SAMPLES // FRAMES_PER_TOKEN
DELAY = DELAY_TOKENS - 1  # a code is about the sound so many tokens ago, and has heard what came after
_BATCH_SECONDS, _GPU_BATCH_SECONDS = 64.0, 512.0
_SAME_NOISE = 24  # rows that are disturbed in one way
_TAIL_S = 0.32  # silence after each recording: the encoder may run this far behind
# Families whose recordings are learnt from more than once while the others are once: there are few of them, and they
# are more like people.
_TIMES = {"kokoro": 4}

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
    missing = net.load_state_dict(load_file(folder / RECOGNISER), strict=False).missing_keys
    heads = [name for name in missing if not name.startswith("tokenizer.")]
    if heads:
        raise CheckpointError(f"{folder / RECOGNISER}: expected {heads[0]}, found none")
    net.tokenizer.load_state_dict(tokenizer.state_dict())
    return net.eval().requires_grad_(False)


def ctc(log_probs: Tensor, tokens: Tensor, targets: list[tuple[int, ...]]) -> Tensor:
    """Mean CTC loss per phone of a batch with `tokens` valid codes per row."""
    device = log_probs.device
    lengths = torch.tensor([len(t) for t in targets], device=device)
    flat = torch.tensor([p for t in targets for p in t], device=device)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), flat, tokens * FRAMES_PER_TOKEN, lengths, phones.BLANK, "none", zero_infinity=True
    )
    return (losses / lengths.clamp(min=1)).mean()


def frame_loss(log_probs: Tensor, sounds: Tensor) -> Tensor:
    """Cross-entropy of log-probabilities [B, 2 T, S] against the sounds [B, 2 T] of the audio; 0 if none is known."""
    delay = DELAY * FRAMES_PER_TOKEN
    wanted = sounds[:, :-delay].flatten()
    total = F.nll_loss(log_probs[:, delay:].flatten(0, 1), wanted, ignore_index=phones.UNKNOWN_SOUND, reduction="sum")
    return total / (wanted != phones.UNKNOWN_SOUND).sum().clamp(min=1)


def sounds_per_frame(sounds: tuple[tuple[int, int], ...], frames: int, lead: int = 0, scale: float = 1.0) -> Tensor:
    """(first sample, sound) in order -> sound of each 20 ms [frames], where `lead` samples come first and time is
    stretched by `scale`."""
    if not sounds:
        return torch.full((frames,), phones.UNKNOWN_SOUND)
    starts = np.array([at for at, _ in sounds])
    middles = (np.arange(frames) + 0.5) * FRAME_SAMPLES / scale - lead
    which = np.searchsorted(starts, middles, side="right") - 1
    names = np.array([sound for _, sound in sounds])
    return torch.from_numpy(np.where(which < 0, 0, names[which.clip(0)]))


@dataclass(frozen=True)
class Example:
    """A recording and what is known about it."""

    pcm: np.ndarray
    phones: tuple[int, ...]
    sounds: tuple[tuple[int, int], ...]
    """(first sample, sound), in order."""

    @classmethod
    def of(cls, recording: corpus.Recording, pcm: np.ndarray) -> "Example":
        return cls(pcm, phones.phone_ids(recording.text), phones.numbered(recording.sounds))


@dataclass(frozen=True)
class Batch:
    """Recordings of similar length."""

    pcm: Tensor
    """[B, 640 T]."""
    tokens: Tensor
    """Valid tokens of each row [B]."""
    phones: list[tuple[int, ...]]
    sounds: Tensor
    """[B, 2 T]."""

    def to(self, device: torch.device) -> "Batch":
        return replace(self, pcm=self.pcm.to(device), tokens=self.tokens.to(device), sounds=self.sounds.to(device))


def batches(examples: list[Example], rng: random.Random, seconds: float) -> Iterator[Batch]:
    """Endless batches of similar length, of at most so many seconds each."""
    while True:
        # Other neighbours every time, for what is in one batch is disturbed in one way.
        lengths = [len(e.pcm) / corpus.HEARD_HZ * rng.uniform(0.97, 1.03) for e in examples]
        groups = by_length(lengths, seconds)
        rng.shuffle(groups)
        for group in groups:
            lead = int(corpus.HEARD_HZ * rng.uniform(0.0, 0.3))
            longest = max(len(examples[i].pcm) for i in group) + lead + int(_TAIL_S * corpus.HEARD_HZ)
            pcm = corpus.padded([examples[i].pcm for i in group], longest, lead)
            pcm = augment.speed(pcm, rng)
            scale = pcm.shape[1] / longest
            used = [(len(examples[i].pcm) + lead) * scale + _TAIL_S * corpus.HEARD_HZ for i in group]
            pcm = F.pad(pcm, (0, -pcm.shape[1] % TOKEN_SAMPLES))
            tokens = torch.tensor([min(int(n) // TOKEN_SAMPLES, pcm.shape[1] // TOKEN_SAMPLES) for n in used])
            frames = pcm.shape[1] // FRAME_SAMPLES
            sounds = torch.stack([sounds_per_frame(examples[i].sounds, frames, lead, scale) for i in group])
            yield Batch(pcm, tokens, [examples[i].phones for i in group], sounds)


def recogniser_loss(net: Recogniser, clean: Tensor, mel: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch, and its parts for the log."""
    latents = net.quantise(mel)
    local, context = net.read(latents)
    ctc_local, ctc_context = (ctc(r.phones, batch.tokens, batch.phones) for r in (local, context))
    sounds_local, sounds_context = (frame_loss(r.sounds, batch.sounds) for r in (local, context))
    wanted = F.avg_pool1d(clean, 4).transpose(1, 2)[:, :-DELAY]  # [B, T - DELAY, 80]
    spectrum = F.l1_loss(net.spectrum(latents)[:, DELAY:], wanted)
    loss = ctc_context + 0.3 * ctc_local + sounds_local + 0.5 * sounds_context + 0.3 * spectrum
    parts = {
        "ctc": ctc_context,
        "ctc_local": ctc_local,
        "sounds": sounds_context,
        "sounds_local": sounds_local,
        "spectrum": spectrum,
    }
    return loss, parts


def train(data: Path, run_folder: Path, net: Recogniser, steps: int, seed: int = 0) -> Recogniser:
    """Train `net` on the `heard` recordings under `data`."""
    torch.manual_seed(1000 * seed + rank())
    recordings = list(corpus.load(data / "heard"))
    examples = [
        example
        for recording, pcm in recordings
        for example in [Example.of(recording, pcm)] * _TIMES.get(recording.voice.partition("-")[0], 1)
    ]
    hours = sum(len(pcm) for _, pcm in recordings) / corpus.HEARD_HZ / 3600
    settings = {"recordings": len(recordings), "audio_hours": hours, "seed": seed}
    matrices = [p for m in net.modules() if isinstance(m, nn.Linear) for p in m.parameters() if p.ndim == 2]
    run = Run(run_folder, net, steps, 2e-3, settings, matrices=matrices)
    start = f"{seed} {run.step} {rank()}"
    rng = random.Random(start)
    seconds, workers = (_GPU_BATCH_SECONDS, GPU_WORKERS) if on_gpu() else (_BATCH_SECONDS, 0)
    source = drawn(lambda worker: batches(examples, random.Random(f"{start} {worker}"), seconds), workers)
    log_mel = net.tokenizer.log_mel
    for _ in run.steps():
        batch = next(source).to(torch.get_default_device())
        with torch.no_grad():
            state = log_mel.initial_state(batch.pcm.shape[0])
            clean = log_mel(batch.pcm, state)[0]
            noisy = torch.cat([augment.noise(rows, rng) for rows in batch.pcm.split(_SAME_NOISE)])
            mel = augment.spectrum(log_mel(noisy, state)[0], rng)
        with mixed_precision():
            loss, parts = recogniser_loss(net, clean, mel, batch)
        run.update(loss, parts)
    return net
