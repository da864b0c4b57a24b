"""Causal convolutions with explicit state: the building blocks of the audio tokenizer and detokenizer.

A streaming module is called as `y, state = module(x, state)`. `state` is a list of tensors whose first dimension is
the batch, so that rows of different sessions can be stacked, and `initial_state(batch)` is silence since ever.
Calling with chunks one after the other gives what one call with everything gives.
This module knows nothing about audio.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import few_frames

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
        if few_frames.suits(x):
            y, after = few_frames.convnext(self, x, state[0])
            return y, [after]
        y, state = self.depthwise(x, state)  # [B, C, T]
        y = self.project(F.gelu(self.expand(self.norm(y.transpose(1, 2)))))  # [B, T, C]
        return x + (self.scale * y).transpose(1, 2), state


class LocalAttention(nn.Module):
    """Causal self-attention over the newest `window` steps, with a learnt bias for each distance.

    The state holds the keys and values of the past [B, 2 C, window - 1]; those of silence since ever are zero.
    """

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.channels, self.heads, self.window = channels, heads, window
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        nn.init.zeros_(self.project.bias)
        # Far less for what is long ago, to begin with; the last column is the present.
        distance = torch.arange(window - 1, -1, -1.0)
        self.bias = nn.Parameter(-distance * torch.logspace(-3, -0.5, heads, 2.0).unsqueeze(1))  # [heads, window]
        self.scale = nn.Parameter(torch.full((channels,), 0.3))

    def initial_state(self, batch: int) -> State:
        return [torch.zeros(batch, 2 * self.channels, self.window - 1)]

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if few_frames.suits(x):
            y, after = few_frames.attention(self, x, state[0])
            return y, [after]
        steps, past = x.shape[2], self.window - 1
        normed = self.norm(x.transpose(1, 2))  # [B, T, C]
        new = self.key_value(normed).transpose(1, 2)
        joined = torch.cat([state[0].to(new.dtype), new], dim=2)  # [B, 2 C, past + T]
        key, value = (
            joined.unflatten(1, (2, self.heads, -1)).transpose(3, 4).unbind(1)
        )  # [B, heads, past + T, C / heads]
        query = self.query(normed).unflatten(2, (self.heads, -1)).transpose(1, 2)
        # Step t sees positions t to t + past of `joined`.
        column = torch.arange(past + steps) - torch.arange(steps).unsqueeze(1)
        seen = (column >= 0) & (column <= past)
        bias = self.bias.index_select(1, column.clamp(0, past).flatten()).view(self.heads, steps, -1)
        bias = bias.masked_fill(~seen, float("-inf"))
        y = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype).unsqueeze(0))
        y = self.project(y.transpose(1, 2).flatten(2))
        return x + (self.scale * y).transpose(1, 2), [joined[:, :, steps:].to(x.dtype)]


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
