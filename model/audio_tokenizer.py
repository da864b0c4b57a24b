"""Audio tokenizer: PCM -> log-mel -> causal encoder -> finite scalar quantisation -> audio codes, 25 a second.

Trained inside a recogniser (`training/tokenizer.py`), so that the codes are phonetic and independent of the speaker.
Purely causal: the encoder is taught to run behind the sound, and has heard what comes next when it says what it was.
This module knows nothing about the Transformer that reads the codes.
"""

import itertools
import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

from model.streaming import ConvNeXtBlock, Downsample, LocalAttention, Stack, State

SAMPLE_RATE_HZ = 16_000
TOKEN_RATE_HZ = 25
TOKEN_SAMPLES = SAMPLE_RATE_HZ // TOKEN_RATE_HZ  # 640 samples, 40 ms
DELAY_TOKENS = 5  # what is said now has reached the codes this much later: feed so much silence before reading the end

_HOP, _WINDOW, _MELS = 160, 400, 80
_LOG_FLOOR = 1e-4


@dataclass(frozen=True)
class AudioTokenizerConfig:
    """Sizes of the encoder."""

    channels: int = 256
    early_blocks: int = 0
    """Of 20 ms each, before the others, which are of 40 ms."""
    blocks: int = 12
    attention_every: int = 2
    """Blocks between one look at the past and the next."""
    heads: int = 4
    window: int = 50
    kernel: int = 9
    expansion: int = 3
    levels: tuple[int, ...] = (8, 8, 8, 8)

    @property
    def codebook_size(self) -> int:
        size = 1
        for level in self.levels:
            size *= level
        return size


class LogMel(nn.Module):
    """PCM -> log-mel frames of 10 ms, normalised by fixed constants. Streaming: a frame ends at the newest sample."""

    bank: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank = AF.melscale_fbanks(_WINDOW // 2 + 1, 20.0, 7600.0, _MELS, SAMPLE_RATE_HZ, norm="slaney")
        self.register_buffer("bank", bank, persistent=False)  # [F, 80]
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)

    def initial_state(self, batch: int) -> State:
        return [torch.zeros(batch, _WINDOW - _HOP)]

    def forward(self, pcm: Tensor, state: State) -> tuple[Tensor, State]:
        pcm = torch.cat([state[0], pcm], dim=1)  # [B, 240 + 160 * T]
        frames = pcm.unfold(1, _WINDOW, _HOP) * self.window  # [B, T, 400]
        spectrum = torch.fft.rfft(frames)
        power = spectrum.real.square() + spectrum.imag.square()  # [B, T, F]; five times as fast as abs().square()
        mel = torch.log((power @ self.bank).clamp(min=_LOG_FLOOR))  # [B, T, 80]
        return ((mel + 3.0) / 3.0).transpose(1, 2), [pcm[:, pcm.shape[1] - (_WINDOW - _HOP) :]]  # [B, 80, T]


class FSQ(nn.Module):
    """Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): each dimension rounded to a few levels."""

    steps: Tensor
    weights: Tensor
    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor([level - 1 for level in levels], dtype=torch.float32), False)
        weights = [1]
        for level in levels[:-1]:
            weights.append(weights[-1] * level)
        self.register_buffer("weights", torch.tensor(weights), False)
        self.register_buffer("levels", torch.tensor(levels), False)

    def forward(self, z: Tensor) -> Tensor:
        """[..., D] -> quantised [..., D] in [-1, 1]; gradients pass straight through the rounding."""
        bounded = torch.tanh(0.8 * z)  # nearly uniform where z is normal
        rounded = torch.round((bounded + 1) / 2 * self.steps) / self.steps * 2 - 1
        return bounded + (rounded - bounded).detach()

    def codes(self, quantised: Tensor) -> Tensor:
        """Quantised [..., D] -> code indices [...]."""
        digits = torch.round((quantised + 1) / 2 * self.steps).long()
        return (digits * self.weights).sum(-1)

    def values(self, codes: Tensor) -> Tensor:
        """Code indices [...] -> quantised values [..., D]."""
        digits = codes.unsqueeze(-1) // self.weights % self.levels
        return digits / self.steps * 2 - 1


class AudioTokenizer(nn.Module):
    """The encoder with its quantiser. Streaming; chunks are multiples of `TOKEN_SAMPLES` samples."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.log_mel = LogMel()
        c = config.channels
        early = c * 3 // 4
        layers: list[nn.Module] = [Downsample(_MELS, early, kernel=4, stride=2)]
        layers += [ConvNeXtBlock(early, config.kernel, config.expansion) for _ in range(config.early_blocks)]
        layers.append(Downsample(early, c, kernel=4, stride=2))
        for i in range(config.blocks):
            layers.append(ConvNeXtBlock(c, config.kernel, config.expansion))
            if i % config.attention_every == config.attention_every - 1:
                layers.append(LocalAttention(c, config.heads, config.window))
        self.encoder = Stack(layers)
        self.norm = nn.LayerNorm(c)
        self.to_latent = nn.Linear(c, len(config.levels))
        # Unit variance per dimension: without it the latents run into the ends of the scale and all codes collapse.
        self.latent_norm = nn.BatchNorm1d(len(config.levels), affine=False, momentum=0.02)
        self.fsq = FSQ(config.levels)

    def grow_from(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of a tokenizer with as many blocks or fewer; blocks it lacks begin by changing nothing.

        Raises `ValueError` if it has more.
        """
        second = next(i for i in itertools.count(1) if f"encoder.layers.{i}.conv.conv.weight" in weights)
        missing = self.config.early_blocks - (second - 1)

        def here(name: str) -> str:
            layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
            if layer is None or int(layer[1]) < second:
                return name
            return f"encoder.layers.{int(layer[1]) + missing}.{layer[2]}"

        loaded = self.load_state_dict({here(name): tensor for name, tensor in weights.items()}, strict=False)
        if loaded.unexpected_keys:
            raise ValueError(f"expected at most {self.config.blocks} blocks, found {loaded.unexpected_keys[0]}")
        with torch.no_grad():
            for name in loaded.missing_keys:
                if name.endswith(".scale"):
                    self.get_parameter(name).zero_()

    def initial_state(self, batch: int) -> State:
        return self.log_mel.initial_state(batch) + self.encoder.initial_state(batch)

    def quantise(self, mel: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-mel [B, 80, 4 T] -> quantised latents [B, T, D]."""
        x, state = self.encoder(mel, state)  # [B, C, T]
        latents = self.latent_norm(self.to_latent(self.norm(x.transpose(1, 2))).transpose(1, 2)).transpose(1, 2)
        return self.fsq(latents), state

    def forward(self, pcm: Tensor, state: State) -> tuple[Tensor, State]:
        """PCM [B, 640 T] in [-1, 1] -> codes [B, T] and the next state."""
        if pcm.shape[1] % TOKEN_SAMPLES:
            raise ValueError(f"expected a multiple of {TOKEN_SAMPLES} samples, got {pcm.shape[1]}")
        mel, mel_state = self.log_mel(pcm, state[:1])
        quantised, encoder_state = self.quantise(mel, state[1:])
        return self.fsq.codes(quantised), mel_state + encoder_state

    def encode(self, pcm: Tensor) -> Tensor:
        """Whole recordings [B, N] -> codes [B, ceil(N / 640)]; the end is padded with silence."""
        pcm = F.pad(pcm, (0, -pcm.shape[1] % TOKEN_SAMPLES))
        codes: Tensor = self(pcm, self.initial_state(pcm.shape[0]))[0]
        return codes
