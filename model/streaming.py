"""Causal convolutions with explicit state: the building blocks of the audio tokenizer and detokenizer.

A streaming module is called as `y, state = module(x, state)`. `state` is a list of tensors whose first dimension is
the batch, so that rows of different sessions can be stacked, and `initial_state(batch)` is silence since ever.
Calling with chunks one after the other gives what one call with everything gives.
This module knows nothing about audio.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = list[Tensor]


class CausalConv1d(nn.Module):
    """A 1-D convolution that sees only the present and the past.

    With `stride` s, chunks must be multiples of s samples long; output t covers input up to s*(t+1)-1.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        if kernel < stride:
            raise ValueError(f"expected kernel >= stride, got kernel {kernel} and stride {stride}")
        self.conv = nn.Conv1d(channels, out_channels, kernel, stride, groups=groups)
        self.context = kernel - stride

    def initial_state(self, batch: int) -> State:
        return [torch.zeros(batch, self.conv.in_channels, self.context)]  # [B, C, context]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x = torch.cat([state[0], x], dim=2)  # [B, C, context + T]
        return self.conv(x), [x[:, :, x.shape[2] - self.context :]]


class ConvNeXtBlock(nn.Module):
    """A causal ConvNeXt block (Liu et al. 2022, arXiv 2201.03545): depthwise convolution, then a perceptron."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = CausalConv1d(channels, channels, kernel, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, channels * expansion)
        self.project = nn.Linear(channels * expansion, channels)
        nn.init.zeros_(self.project.bias)
        self.scale = nn.Parameter(torch.full((channels,), 0.3))

    def initial_state(self, batch: int) -> State:
        return self.depthwise.initial_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.depthwise(x, state)  # [B, C, T]
        y = self.project(F.gelu(self.expand(self.norm(y.transpose(1, 2)))))  # [B, T, C]
        return x + (self.scale * y).transpose(1, 2), state


class Stack(nn.Module):
    """Streaming modules of one state tensor each, one after the other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def initial_state(self, batch: int) -> State:
        return [s for layer in self.layers for s in layer.initial_state(batch)]  # type: ignore[operator]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = []
        for layer, before in zip(self.layers, state, strict=True):
            x, [new] = layer(x, [before])
            after.append(new)
        return x, after


class Downsample(nn.Module):
    """A strided causal convolution and GELU."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = CausalConv1d(channels, out_channels, kernel, stride)

    def initial_state(self, batch: int) -> State:
        return self.conv.initial_state(batch)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.conv(x, state)
        return F.gelu(y), state
