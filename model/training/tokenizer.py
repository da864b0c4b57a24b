"""Stage 2: train the audio tokenizer inside a recogniser of phones.

The codes must carry what was said and nothing of who said it: CTC (Graves et al. 2006) on phones, once read straight
from each code and once through two more causal blocks, and a little of the clean spectrum for timing and energy.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.audio_tokenizer import TOKEN_SAMPLES, AudioTokenizer, AudioTokenizerConfig
from model.streaming import ConvNeXtBlock, Stack
from model.training import augment, corpus, phones
from model.training.run import Run

_FRAMES_PER_TOKEN = 2  # phones are read at 50 Hz, so that two may share a code
_SPECTRUM_DELAY = 2  # tokens
_BATCH_SECONDS = 32.0
_TAIL_S = 0.24  # silence after each recording: the encoder may run this far behind


class Recogniser(nn.Module):
    """The tokenizer, and the heads that tell it what to listen for."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.tokenizer = AudioTokenizer(config)
        c, d = config.channels, len(config.levels)
        outputs = _FRAMES_PER_TOKEN * phones.SIZE
        self.local = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, c), nn.GELU(), nn.Linear(c, outputs))
        self.lift = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, c))
        self.context = Stack([ConvNeXtBlock(c, 9, 2) for _ in range(2)])
        self.context_out = nn.Linear(c, outputs)
        self.spectrum = nn.Sequential(nn.Linear(d, c), nn.GELU(), nn.Linear(c, 80))

    def quantise(self, mel: Tensor) -> Tensor:
        """Log-mel [B, 80, 4 T] -> quantised latents [B, T, D]."""
        state = self.tokenizer.encoder.initial_state(mel.shape[0])
        return self.tokenizer.quantise(mel, state)[0]

    def read(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of phones [B, 2 T, P], straight from each code and from its past."""
        batch, tokens, _ = latents.shape
        local = self.local(latents)
        lifted = self.lift(latents).transpose(1, 2)
        context = self.context_out(self.context(lifted, self.context.initial_state(batch))[0].transpose(1, 2))
        shape = (batch, tokens * _FRAMES_PER_TOKEN, phones.SIZE)
        return local.reshape(shape).log_softmax(-1), context.reshape(shape).log_softmax(-1)


def ctc(log_probs: Tensor, tokens: Tensor, targets: list[tuple[int, ...]]) -> Tensor:
    """Mean CTC loss per phone of a batch with `tokens` valid codes per row."""
    lengths = torch.tensor([len(t) for t in targets])
    flat = torch.tensor([p for t in targets for p in t])
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), flat, tokens * _FRAMES_PER_TOKEN, lengths, phones.BLANK, "none", zero_infinity=True
    )
    return (losses / lengths.clamp(min=1)).mean()


def batches(
    recordings: list[tuple[np.ndarray, tuple[int, ...]]], rng: random.Random
) -> Iterator[tuple[Tensor, Tensor, list[tuple[int, ...]]]]:
    """Endless batches of similar length: PCM [B, N], valid tokens [B], phones."""
    order = sorted(range(len(recordings)), key=lambda i: len(recordings[i][0]))
    groups: list[list[int]] = [[]]
    for i in order:
        longest = len(recordings[i][0]) / corpus.HEARD_HZ
        if groups[-1] and longest * (len(groups[-1]) + 1) > _BATCH_SECONDS:
            groups.append([])
        groups[-1].append(i)
    while True:
        rng.shuffle(groups)
        for group in groups:
            lead = int(corpus.HEARD_HZ * rng.uniform(0.0, 0.3))
            longest = max(len(recordings[i][0]) for i in group) + lead + int(_TAIL_S * corpus.HEARD_HZ)
            pcm = torch.zeros(len(group), longest)
            for row, i in enumerate(group):
                samples = recordings[i][0]
                pcm[row, lead : lead + len(samples)] = torch.from_numpy(samples.astype(np.float32)) / 32768
            pcm = augment.speed(pcm, rng)
            scale = pcm.shape[1] / longest
            used = [(len(recordings[i][0]) + lead) * scale + _TAIL_S * corpus.HEARD_HZ for i in group]
            pcm = F.pad(pcm, (0, -pcm.shape[1] % TOKEN_SAMPLES))
            tokens = torch.tensor([min(int(n) // TOKEN_SAMPLES, pcm.shape[1] // TOKEN_SAMPLES) for n in used])
            yield pcm, tokens, [recordings[i][1] for i in group]


def recogniser_loss(
    net: Recogniser, clean: Tensor, mel: Tensor, tokens: Tensor, targets: list[tuple[int, ...]]
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Loss of one batch, the quantised latents, and the parts for the log."""
    latents = net.quantise(mel)
    local, context = net.read(latents)
    loss_local, loss_context = ctc(local, tokens, targets), ctc(context, tokens, targets)
    wanted = F.avg_pool1d(clean, 4).transpose(1, 2)[:, :-_SPECTRUM_DELAY]  # [B, T - 2, 80]
    loss_spectrum = F.l1_loss(net.spectrum(latents)[:, _SPECTRUM_DELAY:], wanted)
    loss = loss_context + 0.5 * loss_local + 0.3 * loss_spectrum
    parts = {"ctc": loss_context.item(), "ctc_local": loss_local.item(), "spectrum": loss_spectrum.item()}
    return loss, latents, parts


def train(data: Path, run_folder: Path, steps: int, seed: int = 0) -> Recogniser:
    """Train on the `heard` and `spoken` recordings under `data`; returns the recogniser."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    recordings = [(pcm, phones.phone_ids(r.text)) for r, pcm in corpus.load(data / "heard")]
    hours = sum(len(p) for p, _ in recordings) / corpus.HEARD_HZ / 3600
    net = Recogniser(AudioTokenizerConfig())
    run = Run(run_folder, net, steps, 1.5e-3, {"recordings": len(recordings), "audio_hours": hours, "seed": seed})
    source = batches(recordings, rng)
    log_mel = net.tokenizer.log_mel
    for _ in run.steps():
        pcm, tokens, targets = next(source)
        with torch.no_grad():
            state = log_mel.initial_state(pcm.shape[0])
            clean = log_mel(pcm, state)[0]
            mel = augment.spectrum(log_mel(augment.noise(pcm, rng), state)[0], rng)
        loss, _, parts = recogniser_loss(net, clean, mel, tokens, targets)
        run.update(loss, parts)
    return net
