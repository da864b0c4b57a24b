"""The streaming modules for a few frames, each as one compiled function (see `compiled.py`).

The same numbers as `streaming.py`, which uses these wherever nothing is learnt from few frames.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from model import compiled
from model.compiled import Float, Linear, Norm

if TYPE_CHECKING:
    from model.streaming import ConvNeXtBlock, LocalAttention

FEW = 8
"""So many frames of all rows together at most."""


def suits(x: Tensor) -> bool:
    """Whether x [B, C, T] is for these functions."""
    few = x.shape[0] * x.shape[2] <= FEW
    return few and not torch.is_grad_enabled() and x.dtype == torch.float32 and x.device.type == "cpu"


def _array(x: Tensor) -> Float:
    found: Float = x.detach().contiguous().numpy()
    return found


def _linear(layer: nn.Linear) -> Linear:
    return _array(layer.weight), _array(layer.bias)


def _norm(layer: nn.LayerNorm) -> Norm:
    return _array(layer.weight), _array(layer.bias), np.float32(layer.eps)


def convnext(block: "ConvNeXtBlock", x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """What the block gives for x [B, C, T] and its state [B, C, context]: the next of both."""
    conv, joined = block.depthwise.conv, torch.cat([state, x], 2)
    assert conv.bias is not None
    y = compiled.convnext(
        _array(x),
        _array(joined),
        (_array(conv.weight)[:, 0], _array(conv.bias)),
        _norm(block.norm),
        _linear(block.expand),
        _linear(block.project),
        _array(block.scale),
    )
    return torch.from_numpy(y), joined[:, :, x.shape[2] :]


def attention(module: "LocalAttention", x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """What the module gives for x [B, C, T] and its state [B, 2 C, past]: the next of both."""
    room = state.new_zeros(len(x), state.shape[1], x.shape[2])
    joined = torch.cat([state, room], 2)  # contiguous, so that it is written in place
    y = compiled.local_attention(
        _array(x),
        _array(joined),
        _norm(module.norm),
        _linear(module.query),
        _linear(module.key_value),
        _array(module.bias),
        _linear(module.project),
        _array(module.scale),
    )
    return torch.from_numpy(y), joined[:, :, x.shape[2] :]
