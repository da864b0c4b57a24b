"""The Transformer's step for a few tokens as one compiled function, with weights of 8 bits.

For few tokens torch spends a step on starting 240 small operations, not on doing them: one token through the embedded
model takes 6.0 ms so and 1.3 ms here, eight rows of one token 12.9 and 5.0 ms (a core of an Intel Xeon, 2026-11-27).
What is left is about what reading the weights takes. More tokens are better multiplied by torch
(`cached_transformer.py`).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import compiled
from model.compiled import Float

if TYPE_CHECKING:
    from model.cached_transformer import KVCache

_Whole = NDArray[np.int8]


class Matrices(NamedTuple):
    """Matrices [..., out, in] as whole numbers of 8 bits, whose rows have a scale each [..., out]."""

    whole: _Whole
    scale: Float

    @classmethod
    def of(cls, weights: Tensor) -> "Matrices":
        """The nearest ones to weights [..., out, in]."""
        scale = (weights.detach().abs().amax(-1) / 127).clamp(min=1e-12)
        whole = (weights.detach() / scale.unsqueeze(-1)).round().to(torch.int8)
        return cls(whole.numpy(), scale.numpy())

    def float(self) -> Tensor:
        """What they stand for."""
        return torch.from_numpy(self.whole) * torch.from_numpy(self.scale).unsqueeze(-1)

    def product(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Few inputs [N, in] -> their outputs from `start` to `stop` [N, stop - start]."""
        out = np.empty((len(x), stop - start), np.float32)
        compiled.product(self.whole[start:stop], x.numpy(), out)
        return torch.from_numpy(out * self.scale[start:stop])


class Layers(NamedTuple):
    """Weights of all layers, the norms before a product folded into it."""

    to_qkv: Matrices
    norms: Float
    """Of queries (with the scale of attention) and keys: [L, H + KV, D]."""
    to_out: Matrices
    to_gate_up: Matrices
    to_down: Matrices
    final: Float
    """The norm after the last one: [C]."""
    cos: Float
    """[P, D], as `sin`."""
    sin: Float
    eps: np.float32


def extend(x: Tensor, slots: Tensor, positions: Tensor, cache: "KVCache", layers: Layers) -> Tensor:
    """Embedded tokens [N, C] at `positions` [N] of the sequences in `slots` [N] -> final hidden states [N, C].

    Several tokens of one sequence may come together. `x` is overwritten.
    """
    keys, values = cache.keys.numpy(), cache.values.numpy()
    return torch.from_numpy(compiled.extend(x.numpy(), slots.numpy(), positions.numpy(), keys, values, layers))
