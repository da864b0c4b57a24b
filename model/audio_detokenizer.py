"""Audio detokenizer: spoken codes -> 24 kHz waveform, in the one voice the model owns.

A causal network reads the codes and says, every 10 ms, how high the voice is and what colour its tone and its breath
have; a source-filter synthesiser turns that into sound (harmonics and noise, each filtered in the frequency domain;
after Wang et al. 2019, arXiv 1904.12088, and Engel et al. 2020, arXiv 2001.04643). There is no speaker input.

Output runs `DELAY_SAMPLES` behind the codes; `decode` and `DetokenizerStream` hide that. Batched over rows.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.audio_tokenizer import FSQ
from model.streaming import ConvNeXtBlock, Stack, State

SAMPLE_RATE_HZ = 24_000
TOKEN_SAMPLES = 960  # 40 ms
LOOKAHEAD_TOKENS = 3

_HOP = 240  # 10 ms
_FRAMES = TOKEN_SAMPLES // _HOP
_FFT = 4 * _HOP
_BINS = _FFT // 2 + 1
_SYNTHESIS_DELAY = 2 * _HOP
DELAY_SAMPLES = LOOKAHEAD_TOKENS * TOKEN_SAMPLES + _SYNTHESIS_DELAY


def delay_samples(speed: float) -> int:
    """How far the output runs behind the codes where the voice speaks `speed` times as fast."""
    return round(LOOKAHEAD_TOKENS * TOKEN_SAMPLES / speed) + _SYNTHESIS_DELAY


FLUSH_TOKENS = LOOKAHEAD_TOKENS + 1  # repeats of the last code that push everything out
F0_CENTRE_HZ = 170.0
_F0_RANGE_HZ = (60.0, 420.0)
_NOISE_SAMPLES = 1 << 16


@dataclass(frozen=True)
class AudioDetokenizerConfig:
    """Sizes of the network; `levels` are those of the spoken codes."""

    code_channels: int = 256
    code_blocks: int = 3
    frame_channels: int = 192
    frame_blocks: int = 3
    kernel: int = 7
    bands: int = 80
    levels: tuple[int, ...] = (8, 8, 8, 8)


class Synthesiser(nn.Module):
    """Pitch and two spectral envelopes per 10 ms frame -> samples. Streaming; runs `_SYNTHESIS_DELAY` behind."""

    spread: Tensor
    window: Tensor
    noise: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        mel = torch.linspace(0, math.log1p(SAMPLE_RATE_HZ / 2 / 700), bands)  # band centres, evenly spaced in mel
        hz = 700 * torch.expm1(mel)
        bins = torch.linspace(0, SAMPLE_RATE_HZ / 2, _BINS)
        right = torch.searchsorted(hz, bins).clamp(1, bands - 1)
        part = ((bins - hz[right - 1]) / (hz[right] - hz[right - 1])).clamp(0, 1)
        spread = torch.zeros(bands, _BINS)
        spread[right - 1, torch.arange(_BINS)] = 1 - part
        spread[right, torch.arange(_BINS)] += part
        self.register_buffer("spread", spread, persistent=False)  # [bands, bins]: linear interpolation
        self.register_buffer("window", torch.hann_window(2 * _HOP), persistent=False)
        table = torch.randn(_NOISE_SAMPLES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", table, persistent=False)

    def initial_state(self, batch: int) -> State:
        return [
            torch.zeros(batch, 2),  # phase in cycles, last f0 in Hz
            torch.zeros(batch, 1, dtype=torch.long),  # position in the noise table
            torch.zeros(batch, 2, _HOP),  # the last hop of both excitations
            torch.zeros(batch, 3 * _HOP),  # output still being added to
        ]

    def _pulses(self, f0: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """f0 [B, T] (0 where unvoiced) -> band-limited pulse train [B, 240 T], in closed form."""
        batch = f0.shape[0]
        before = torch.cat([state[:, 1:], f0[:, :-1]], 1)
        start = torch.where(before > 0, before, f0).unsqueeze(2)
        end = torch.where(f0 > 0, f0, before).unsqueeze(2)
        ramp = torch.arange(1, _HOP + 1) / _HOP
        hz = (start + (end - start) * ramp).reshape(batch, -1)
        # Double precision: streaming and whole must agree after minutes of speech.
        cycles = state[:, :1].double() + torch.cumsum(hz.double() / SAMPLE_RATE_HZ, 1)
        phase = cycles - cycles.floor()
        voiced = (f0 > 0).repeat_interleave(_HOP, 1)
        harmonics = torch.floor(0.45 * SAMPLE_RATE_HZ / hz.clamp(min=_F0_RANGE_HZ[0]))
        # sum of cos(k x), k = 1..K, is (sin((K + 1/2) x) / sin(x / 2) - 1) / 2
        half = torch.pi * (phase.float() - 0.5)  # x / 2 of a pulse in the middle of the cycle
        sine = torch.sin(half)
        near = sine.abs() < 1e-4
        ratio = torch.where(
            near, 2 * harmonics + 1, torch.sin((2 * harmonics + 1) * half) / torch.where(near, 1.0, sine)
        )
        pulses = torch.where(voiced, (ratio - 1) / 2 / torch.sqrt(harmonics / 2), 0.0)
        return pulses, torch.stack([phase[:, -1].float(), f0[:, -1]], 1)

    def forward(self, f0: Tensor, tone: Tensor, breath: Tensor, state: State) -> tuple[Tensor, State]:
        """f0 [B, T] in Hz; log-envelopes [B, T, bands] -> samples [B, 240 T], and the next state."""
        frames = f0.shape[1]
        pulses, phase_state = self._pulses(f0, state[0])
        index = (state[1] + torch.arange(frames * _HOP)) % _NOISE_SAMPLES
        excitation = torch.stack([pulses, self.noise[index]], 1)  # [B, 2, 240 T]
        joined = torch.cat([state[2], excitation], 2)
        windowed = joined.unfold(2, 2 * _HOP, _HOP) * self.window  # [B, 2, T, 480]
        spectrum = torch.fft.rfft(F.pad(windowed, (_HOP, _HOP)))  # [B, 2, T, bins]
        envelope = torch.exp((torch.stack([tone, breath], 1) @ self.spread).clamp(max=8.0))
        blocks = torch.fft.irfft((spectrum * envelope).sum(1), _FFT)  # [B, T, 960]
        whole = F.fold(blocks.transpose(1, 2), (1, (frames + 3) * _HOP), (1, _FFT), stride=(1, _HOP))[:, 0, 0]
        whole = torch.cat([whole[:, : 3 * _HOP] + state[3], whole[:, 3 * _HOP :]], 1)
        after = [
            phase_state,
            (state[1] + frames * _HOP) % _NOISE_SAMPLES,
            excitation[:, :, -_HOP:],
            whole[:, -3 * _HOP :],
        ]
        return whole[:, : frames * _HOP], after


class AudioDetokenizer(nn.Module):
    """Codes -> samples. Streaming: each code gives 960 samples, which belong `DELAY_SAMPLES` earlier."""

    def __init__(self, config: AudioDetokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.fsq = FSQ(config.levels)
        c, f = config.code_channels, config.frame_channels
        self.lift = nn.Sequential(nn.Linear(len(config.levels), c), nn.GELU(), nn.Linear(c, c))
        self.code_stack = Stack([ConvNeXtBlock(c, config.kernel, 3) for _ in range(config.code_blocks)])
        self.upsample = nn.Linear(c, f * _FRAMES)
        self.frame_stack = Stack([ConvNeXtBlock(f, config.kernel, 2) for _ in range(config.frame_blocks)])
        self.norm = nn.LayerNorm(f)
        self.pitch = nn.Linear(f, 2)  # log2(f0 / centre), voicing
        self.envelopes = nn.Linear(f, 2 * config.bands)
        self.synthesiser = Synthesiser(config.bands)
        self._code_states, self._frame_states = config.code_blocks, config.frame_blocks

    def initial_state(self, batch: int) -> State:
        return (
            self.code_stack.initial_state(batch)
            + self.frame_stack.initial_state(batch)
            + self.synthesiser.initial_state(batch)
        )

    def analyse(self, latents: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Latents [B, T, D] -> (log2 pitch, voicing logit) [B, 4 T, 2], log-envelopes [B, 4 T, 2 bands], state."""
        x, code_state = self.code_stack(self.lift(latents).transpose(1, 2), state[: self._code_states])
        batch, _, tokens = x.shape
        x = self.upsample(x.transpose(1, 2)).reshape(batch, tokens * _FRAMES, -1).transpose(1, 2)
        x, frame_state = self.frame_stack(x, state[self._code_states :])
        x = self.norm(x.transpose(1, 2))
        return self.pitch(x), self.envelopes(x), code_state + frame_state

    def f0_hz(self, pitch: Tensor) -> Tensor:
        """(log2 pitch, voicing logit) [..., 2] -> f0 in Hz [...], 0 where unvoiced."""
        hz = (F0_CENTRE_HZ * torch.exp2(pitch[..., 0])).clamp(*_F0_RANGE_HZ)
        return torch.where(pitch[..., 1] > 0, hz, 0.0)

    def forward(self, codes: Tensor, state: State) -> tuple[Tensor, State]:
        """Codes [B, T] -> samples [B, 960 T], running `DELAY_SAMPLES` behind, and the next state."""
        stacks = self._code_states + self._frame_states
        pitch, envelopes, after = self.analyse(self.fsq.values(codes), state[:stacks])
        tone, breath = envelopes.chunk(2, -1)
        samples, synthesis = self.synthesiser(self.f0_hz(pitch), tone, breath, state[stacks:])
        return samples, after + synthesis

    def stretch(self, codes: Tensor, state: State, past: Tensor | None, speed: float) -> tuple[Tensor, State, Tensor]:
        """Codes [1, T] of a voice that speaks `speed` times as fast -> samples [1, about 960 T / speed].

        The network says what the voice does every 10 ms; these frames are read faster or slower, which changes neither
        pitch nor colour. `past` is what the call before returned, None at first: the newest frame, and where between it
        and the next one reading goes on.
        """
        stacks = self._code_states + self._frame_states
        pitch, envelopes, after = self.analyse(self.fsq.values(codes), state[:stacks])
        frames = torch.cat([pitch, envelopes], -1)[0]  # [F, 2 + 2 bands]
        first = 0.0
        if past is not None:
            first, frames = float(past[0, -1]), torch.cat([past[:, :-1], frames])
        count = max(0, math.ceil((len(frames) - 1 - first) / speed))
        at = first + speed * torch.arange(count, dtype=torch.float64)
        below = at.long()
        part = (at - below).float().unsqueeze(1)
        read = (frames[below] * (1 - part) + frames[below + 1] * part).unsqueeze(0) if count else frames[None, :0]
        rest = first + speed * count - (len(frames) - 1)
        past = torch.cat([frames[-1:], torch.tensor([[rest]])], 1)
        if not count:
            return torch.zeros(1, 0), after + state[stacks:], past
        tone, breath = read[..., 2:].chunk(2, -1)
        samples, synthesis = self.synthesiser(self.f0_hz(read[..., :2]), tone, breath, state[stacks:])
        return samples, after + synthesis, past

    def decode(self, codes: Tensor) -> Tensor:
        """Whole code sequences [B, T] -> samples [B, 960 T]."""
        padded = torch.cat([codes, codes[:, -1:].expand(-1, FLUSH_TOKENS)], 1)
        samples: Tensor = self(padded, self.initial_state(codes.shape[0]))[0]
        return samples[:, DELAY_SAMPLES : DELAY_SAMPLES + codes.shape[1] * TOKEN_SAMPLES]
