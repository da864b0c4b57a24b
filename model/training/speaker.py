"""Stage `speaker`: train the voice. A copy of the audio tokenizer, fine-tuned together with the detokenizer on the one
output voice, so that its codes keep melody and colour beside the phones.

The detokenizer's source-filter synthesiser gets the true pitch while it learns; the network learns the pitch beside.
Losses: multi-resolution STFT (Yamamoto et al. 2020, arXiv 1910.11480), pitch, voicing, and the recogniser's CTC.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn
from tqdm import tqdm

from model.audio_detokenizer import (
    F0_CENTRE_HZ,
    LOOKAHEAD_TOKENS,
    AudioDetokenizer,
    AudioDetokenizerConfig,
)
from model.audio_detokenizer import TOKEN_SAMPLES as SPOKEN_TOKEN_SAMPLES
from model.audio_tokenizer import TOKEN_SAMPLES as HEARD_TOKEN_SAMPLES
from model.training import corpus, phones
from model.training.ctc import ctc, padded_labels
from model.training.run import Run, by_length, mixed_precision, rank
from model.training.tokenizer import FRAMES_PER_TOKEN, Recogniser

# The spoken codes are moved earlier by so much: code t has heard the sound up to frame t + 2.
CODE_DELAY_TOKENS = 2
# Leading silence of a recording that is cut off: an answer should begin with its first sound.
LEAD_CUT_SAMPLES = int(0.035 * corpus.SPOKEN_HZ)
_FRAMES = 4
_HOP = SPOKEN_TOKEN_SAMPLES // _FRAMES
_BATCH_SECONDS = 24.0
_RESOLUTIONS = ((2048, 480), (1024, 240), (512, 120))


class Speaker(nn.Module):
    """Recogniser (its tokenizer makes the spoken codes) and detokenizer, trained together."""

    def __init__(self, recogniser: Recogniser, config: AudioDetokenizerConfig) -> None:
        super().__init__()
        self.recogniser = recogniser
        self.detokenizer = AudioDetokenizer(config)


def pitch_of(data: Path) -> dict[int, np.ndarray]:
    """f0 in Hz every 10 ms (0 where unvoiced) of every spoken recording, by its place; kept in `f0.npz`."""
    cache = data / "spoken" / "f0.npz"
    if cache.exists():
        with np.load(cache) as stored:
            return {int(k): stored[k] for k in stored.files}
    import pyworld

    found = {}
    for i, (recording, pcm) in enumerate(tqdm(corpus.load(data / "spoken"), desc="pitch", unit="recording")):
        samples = pcm[LEAD_CUT_SAMPLES:].astype(np.float64) / 32768
        f0, times = pyworld.dio(samples, recording.rate_hz, f0_floor=80.0, f0_ceil=400.0, frame_period=10.0)
        found[i] = pyworld.stonemask(samples, f0, times, recording.rate_hz).astype(np.float32)
    partial = cache.with_suffix(".partial.npz")  # else the name gets this suffix
    np.savez(partial, **{str(k): v for k, v in found.items()})
    partial.rename(cache)
    return found


def latents_of(recogniser: Recogniser, pcm16: Tensor) -> Tensor:
    """16 kHz audio [B, 640 T] -> latents [B, T, D], moved earlier by `CODE_DELAY_TOKENS`."""
    padded = F.pad(pcm16, (0, CODE_DELAY_TOKENS * HEARD_TOKEN_SAMPLES))
    with torch.no_grad():
        log_mel = recogniser.tokenizer.log_mel
        mel = log_mel(padded, log_mel.initial_state(padded.shape[0]))[0]
    return recogniser.quantise(mel)[:, CODE_DELAY_TOKENS:]


def spectral_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Log-magnitude L1 plus spectral convergence at several resolutions."""
    total = torch.zeros(())
    for size, hop in _RESOLUTIONS:
        window = torch.hann_window(size)
        spectra = [
            torch.stft(x, size, hop, size, window, return_complex=True).abs().clamp(min=1e-4) for x in (made, wanted)
        ]
        total = total + F.l1_loss(spectra[0].log(), spectra[1].log())
        total = total + torch.linalg.norm(spectra[1] - spectra[0]) / torch.linalg.norm(spectra[1])
    return total / len(_RESOLUTIONS)


def _batches(
    recordings: list[tuple[np.ndarray, np.ndarray, tuple[int, ...]]], rng: random.Random
) -> Iterator[tuple[Tensor, Tensor, Tensor, list[tuple[int, ...]]]]:
    """Endless batches: 24 kHz audio [B, 960 T], f0 [B, 4 T], valid tokens [B], phones."""
    groups = by_length([len(pcm) / corpus.SPOKEN_HZ for pcm, _, _ in recordings], _BATCH_SECONDS)
    while True:
        rng.shuffle(groups)
        for group in groups:
            tokens = [len(recordings[i][0]) // SPOKEN_TOKEN_SAMPLES for i in group]
            pcm = torch.zeros(len(group), max(tokens) * SPOKEN_TOKEN_SAMPLES)
            f0 = torch.zeros(len(group), max(tokens) * _FRAMES)
            for row, i in enumerate(group):
                samples, pitch, _ = recordings[i]
                n = tokens[row] * SPOKEN_TOKEN_SAMPLES
                pcm[row, :n] = torch.from_numpy(samples[:n].astype(np.float32)) / 32768
                m = min(len(pitch), tokens[row] * _FRAMES)
                f0[row, :m] = torch.from_numpy(pitch[:m])
            yield pcm, f0, torch.tensor(tokens), [recordings[i][2] for i in group]


def voice_loss(
    speaker: Speaker, pcm: Tensor, f0: Tensor, tokens: Tensor, targets: list[tuple[int, ...]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch of the output voice, and its parts for the log."""
    with mixed_precision():
        latents = latents_of(speaker.recogniser, AF.resample(pcm, corpus.SPOKEN_HZ, corpus.HEARD_HZ))
        local, context = speaker.recogniser.read(latents)
    known = tokens * FRAMES_PER_TOKEN, *padded_labels(targets)
    loss_ctc = ctc(context.phones, *known) + 0.5 * ctc(local.phones, *known)
    detokenizer = speaker.detokenizer
    padded = torch.cat([latents, latents[:, -1:].expand(-1, LOOKAHEAD_TOKENS, -1)], 1)
    state = detokenizer.initial_state(pcm.shape[0])
    with mixed_precision():
        pitch, envelopes, _ = detokenizer.analyse(padded, state[: -len(detokenizer.synthesiser.initial_state(1))])
    pitch, envelopes = (x[:, LOOKAHEAD_TOKENS * _FRAMES :].float() for x in (pitch, envelopes))
    voiced = f0 > 0
    loss_voicing = F.binary_cross_entropy_with_logits(pitch[..., 1], voiced.float())
    wanted = torch.log2(f0.clamp(min=50.0) / F0_CENTRE_HZ)
    loss_pitch = ((pitch[..., 0] - wanted).abs() * voiced).sum() / voiced.sum()
    tone, breath = envelopes.chunk(2, -1)
    made, _ = detokenizer.synthesiser(f0, tone, breath, detokenizer.synthesiser.initial_state(pcm.shape[0]))
    delay = 2 * _HOP
    loss_spectral = spectral_loss(made[:, delay:], pcm[:, :-delay])
    loss = loss_spectral + loss_pitch + 0.5 * loss_voicing + 0.3 * loss_ctc
    parts = {"spectral": loss_spectral, "pitch": loss_pitch, "voicing": loss_voicing, "ctc": loss_ctc}
    return loss, parts


def train(data: Path, run_folder: Path, speaker: Speaker, steps: int, seed: int = 0) -> Speaker:
    """Fine-tune the speaker's recogniser into the spoken tokenizer and train the detokenizer with it."""
    torch.manual_seed(1000 * seed + rank())
    pitch = pitch_of(data)
    recordings = [
        (pcm[LEAD_CUT_SAMPLES:], pitch[i], phones.phone_ids(r.text))
        for i, (r, pcm) in enumerate(corpus.load(data / "spoken"))
    ]
    hours = sum(len(p) for p, _, _ in recordings) / corpus.SPOKEN_HZ / 3600
    settings = {"recordings": len(recordings), "audio_hours": hours, "seed": seed}
    run = Run(run_folder, speaker, steps, 2e-3, settings, matrices=[p for p in speaker.parameters() if p.ndim == 2])
    source = _batches(recordings, random.Random(f"{seed} {run.step} {rank()}"))
    for _ in run.steps():
        loss, parts = voice_loss(speaker, *next(source))
        run.update(loss, parts)
    return speaker
