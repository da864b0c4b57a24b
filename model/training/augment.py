"""What happens to a clean recording before the tokenizer hears it: rooms, lines, noise, other throats.

Works on batches [B, N] of 16 kHz audio and on log-mel batches; knows nothing about texts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_ROOM_SAMPLES = 5600  # 0.35 s


def _uniform(rows: int, low: float, high: float) -> Tensor:
    return torch.rand(rows, 1) * (high - low) + low


def _rooms(rows: int, share: float) -> Tensor:
    """Impulse responses [B, N]: decaying noise behind the direct sound in so many of the rows, else that alone."""
    time = torch.arange(_ROOM_SAMPLES).unsqueeze(0)
    length = _uniform(rows, 800, _ROOM_SAMPLES)
    response = torch.randn(rows, _ROOM_SAMPLES) * torch.exp(-5 * time / length) * (time < length)
    response = torch.where(time == 0, _uniform(rows, 4, 16), response)
    response = response / response.square().sum(1, keepdim=True).sqrt()
    return torch.where(torch.rand(rows, 1) < share, response, (time == 0).float())


def noise(pcm: Tensor, always: bool = False) -> Tensor:
    """Level changes; coloured noise at 2 to 38 dB or other people's talk at 9 to 40; now and then a room, or clipping.

    `always`: coloured or white noise at 4 to 20 dB in every row. Every row is disturbed in its own way, by operations
    that are the same whatever is drawn.
    """
    rows, samples = pcm.shape
    size = 1 << (samples + _ROOM_SAMPLES - 1).bit_length()
    pcm = pcm * 10 ** (_uniform(rows, -15, 3) / 20)
    pcm = torch.fft.irfft(torch.fft.rfft(pcm, size) * torch.fft.rfft(_rooms(rows, 0.12), size), size)[:, :samples]
    # Up to 0.36 coloured, to 0.56 white, to 0.66 talk, then nothing.
    kind = torch.rand(rows, 1) * (0.56 if always else 1.0)
    # From rumble to hiss: a power law, which needs no recursive filter.
    frequency = torch.linspace(1 / samples, 1, samples // 2 + 1)
    power = torch.where(kind < 0.36, _uniform(rows, -0.5, 1.2), torch.zeros(rows, 1))
    white = torch.fft.rfft(torch.randn(rows, samples))
    other = torch.fft.irfft(white * torch.exp(-power * frequency.log()), samples)
    talk = torch.roll(pcm, 1, 0) + torch.roll(pcm, 2, 0) + 0.5 * torch.roll(pcm, 3, 0)
    talks = kind > 0.56
    other = torch.where(talks, torch.roll(talk, samples // 3, 1), other)
    loud, quiet = (4, 20) if always else (2, 38)
    snr_db = torch.where(talks, _uniform(rows, 9, 40), _uniform(rows, loud, quiet))
    level = pcm.square().mean(1, keepdim=True).sqrt()
    scale = level / other.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6) / 10 ** (snr_db / 20)
    pcm = torch.where(kind < 0.66, pcm + other * scale, pcm)
    return torch.where(torch.rand(rows, 1) < 0.05, (pcm * 4).clamp(-0.5, 0.5) / 2, pcm)


def tempo(mel: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
    """Log-mel [B, N, 2 T] and the sound of each 20 ms [B, T], as if half of the speakers had hurried and dwelt.

    Every quarter of a second has a tempo of its own, mostly within 25 % of the mean; the whole takes as long as before.
    """
    batch, _, frames = mel.shape
    changes = torch.rand(batch, 1, 1) < 0.5
    knots = torch.randn(batch, 1, frames // 25 + 2) * 0.22 * changes
    rate = F.interpolate(knots, frames, mode="linear", align_corners=True)[:, 0].exp()
    position = rate.cumsum(1) - rate
    position = position * ((frames - 1) / position[:, -1:])  # [B, 2 T]
    low = position.floor().long().clamp(max=frames - 2)
    part = (position - low).unsqueeze(1)
    low = low.unsqueeze(1).expand(-1, mel.shape[1], -1)
    moved = mel.gather(2, low) * (1 - part) + mel.gather(2, low + 1) * part
    middles = (position[:, 0::2] + position[:, 1::2]) / 2
    return moved, sounds.gather(1, (middles / 2).long().clamp(max=sounds.shape[1] - 1))


def spectrum(mel: Tensor, far: bool = False) -> Tensor:
    """Log-mel [B, 80, T] as another throat and another line would have made it.

    `far`: throats that the tokenizer reads as badly as those of strangers.
    """
    batch, bands, frames = mel.shape
    # Vocal-tract length perturbation (Jaitly & Hinton 2013): stretch the frequency axis by up to 15 %; far ones by 15
    # to 33 %, where 22 to 35 % of the phones are read wrongly and not 14 (strangers: 28 to 38 %).
    if far:
        longer = torch.rand(batch, 1) < 0.5
        warp = torch.where(longer, _uniform(batch, 0.74, 0.87), _uniform(batch, 1.15, 1.33))
    else:
        warp = _uniform(batch, 0.87, 1.15)
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
