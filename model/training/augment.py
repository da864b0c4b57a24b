"""What happens to a clean recording before the tokenizer hears it: rooms, lines, noise, other throats.

Works on batches [B, N] of 16 kHz audio and on log-mel batches; knows nothing about texts.
"""

import random

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor


def speed(pcm: Tensor, rng: random.Random) -> Tensor:
    """Faster and higher, or slower and lower: one of a few ratios that resample cheaply."""
    ratio = rng.choice(((5, 6), (9, 10), (10, 11), (1, 1), (1, 1), (1, 1), (1, 1), (10, 9), (11, 10), (6, 5)))
    return pcm if ratio == (1, 1) else AF.resample(pcm, ratio[1], ratio[0])


def noise(pcm: Tensor, rng: random.Random) -> Tensor:
    """Level changes, coloured noise at 3 to 40 dB or other people's talk at 9 to 40, and now and then clipping."""
    batch, samples = pcm.shape
    gain = 10 ** (torch.empty(batch, 1).uniform_(-15, 3) / 20)
    pcm = pcm * gain
    kind = rng.random()
    if kind < 0.6:
        rows = torch.randn(batch, samples)
        if kind < 0.38:  # coloured, from rumble to hiss: a power law, which needs no recursive filter
            frequency = torch.linspace(1 / samples, 1, samples // 2 + 1)
            rows = torch.fft.irfft(
                torch.fft.rfft(rows) * frequency ** -torch.empty(batch, 1).uniform_(-0.5, 1.2), samples
            )
        if kind > 0.5:  # babble: the other rows of the batch, mixed
            rows = torch.roll(pcm, 1, 0) + torch.roll(pcm, 2, 0) + 0.5 * torch.roll(pcm, 3, 0)
            rows = torch.roll(rows, samples // 3, 1)
        level = pcm.square().mean(1, keepdim=True).sqrt()
        snr_db = torch.empty(batch, 1).uniform_(3 if kind <= 0.5 else 9, 40)
        pcm = pcm + rows * level / rows.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6) / 10 ** (snr_db / 20)
    if rng.random() < 0.05:
        pcm = (pcm * 4).clamp(-0.5, 0.5) / 2
    if rng.random() < 0.1:  # a room: decaying noise as impulse response
        length = int(16000 * rng.uniform(0.05, 0.35))
        response = torch.randn(length) * torch.exp(-torch.arange(length) / (length / 5.0))
        response[0] = rng.uniform(4, 16)
        pcm = AF.fftconvolve(pcm, (response / response.square().sum().sqrt()).unsqueeze(0))[:, :samples]
    return pcm


def spectrum(mel: Tensor, rng: random.Random) -> Tensor:
    """Log-mel [B, 80, T] as another throat and another line would have made it."""
    batch, bands, frames = mel.shape
    # Vocal-tract length perturbation (Jaitly & Hinton 2013): stretch the frequency axis by up to 15 %.
    warp = torch.empty(batch, 1).uniform_(0.87, 1.15)
    position = (torch.arange(bands).unsqueeze(0) * warp).clamp(0, bands - 1)  # [B, 80]
    low = position.floor().long()
    high = (low + 1).clamp(max=bands - 1)
    part = (position - low).unsqueeze(2)
    rows = torch.arange(batch).unsqueeze(1)
    mel = mel[rows, low] * (1 - part) + mel[rows, high] * part
    tilt = torch.empty(batch, 1, 1).uniform_(-0.6, 0.6) * torch.linspace(-1, 1, bands).view(1, -1, 1)
    ripple = F.interpolate(0.15 * torch.randn(batch, 1, 6), bands, mode="linear", align_corners=True).transpose(1, 2)
    mel = mel + tilt + ripple
    floor = mel.amin(dim=(1, 2), keepdim=True)
    telephone = (torch.rand(batch) < 0.1).view(-1, 1, 1)
    band = torch.arange(bands).view(1, -1, 1)
    mel = torch.where(telephone & ((band < 7) | (band > 54)), floor, mel)
    # SpecAugment (Park et al. 2019): one band of up to 10 channels goes missing, and up to 50 ms here and there.
    first = torch.randint(0, bands - 10, (batch,)).view(-1, 1, 1)
    width = torch.randint(0, 10, (batch,)).view(-1, 1, 1)
    missing = (band >= first) & (band < first + width)
    time = torch.arange(frames).view(1, 1, -1)
    for _ in range(1 + frames // 200):
        at = torch.randint(0, frames, (batch,)).view(-1, 1, 1)
        missing = missing | ((time >= at) & (time < at + torch.randint(0, 6, (batch,)).view(-1, 1, 1)))
    return torch.where(missing, mel.mean(dim=(1, 2), keepdim=True), mel)
