"""The Transformer's step for a few tokens as one compiled function, with weights of 8 bits.

For few tokens torch spends a step on starting 240 small operations, not on doing them: one token through the embedded
model took 6.0 ms so and 1.3 ms here, eight rows of one token 12.9 and 5.0 ms (a busy core of a Xeon, 2026-11-27).
What is left is about what reading the weights takes. It is one thread's work, whatever torch may use. More tokens are
better multiplied by torch (`cached_transformer.py`).
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model import compiled
from model.compiled import Layers, Matrices

if TYPE_CHECKING:
    from model.cached_transformer import KVCache


def nearest(weights: Tensor) -> Matrices:
    """Weights [..., out, in] -> the nearest matrices of 8 bits."""
    scale = (weights.abs().amax(-1) / 127).clamp(min=1e-12)
    whole = (weights / scale.unsqueeze(-1)).round().to(torch.int8)
    return Matrices(whole.numpy(), scale.numpy())


def meaning(matrices: Matrices) -> Tensor:
    """The weights that they stand for."""
    return torch.from_numpy(matrices.whole) * torch.from_numpy(matrices.scale).unsqueeze(-1)


def product(matrix: Matrices, x: Tensor, start: int, stop: int) -> Tensor:
    """Few inputs x [N, in] -> the outputs from `start` to `stop` [N, stop - start]."""
    out = np.empty((len(x), stop - start), np.float32)
    compiled.product(matrix.whole[start:stop], x.numpy(), out)
    return torch.from_numpy(out * matrix.scale[start:stop])


def extend(x: Tensor, slots: Tensor, positions: Tensor, cache: "KVCache", layers: Layers) -> Tensor:
    """Embedded tokens [N, C] at `positions` [N] of the sequences in `slots` [N] -> final hidden states [N, C].

    Several tokens of one sequence may come together. `x` is overwritten.
    """
    keys, values = cache.keys.numpy(), cache.values.numpy()
    return torch.from_numpy(compiled.extend(x.numpy(), slots.numpy(), positions.numpy(), keys, values, layers))
