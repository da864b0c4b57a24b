"""Linear layers whose weights are laid out beforehand for oneDNN.

For single precision torch multiplies with MKL, which does not know every processor: on AMD's oneDNN is twice as fast
(237 against 105 gigaflops a core of an EPYC with Zen 5, 1024 x 1024), and it need not rearrange the weights each time.
`torch.compile` uses the same two operators. They have no public name: where they are missing, torch multiplies, and so
it does on Intel's, where MKL takes 0.4 to 0.9 of oneDNN's time for up to 32 rows of this model (Xeon, 2026-11-27).
"""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)


@functools.cache
def _mkl_knows() -> bool:
    """Whether this processor is one that MKL was made for."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


class PackedLinear(nn.Module):
    """A linear layer for inference."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Weight [out, in] and bias [out]."""
        super().__init__()
        fits = _AVAILABLE and not _mkl_knows() and weight.device.type == "cpu" and weight.dtype == torch.float32
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach()) if fits else None
        self.weight = None if fits else weight.detach()
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [..., in] -> [..., out]."""
        if self._packed is None:
            assert self.weight is not None
            return F.linear(x, self.weight, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return product


def pack(network: nn.Module) -> None:
    """Replace every linear layer in `network`, in place: for inference only, with the same names of weights."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Linear):
            packed = PackedLinear(layer.weight, layer.bias)
            packed.weight = layer.weight
            setattr(network, name, packed)
        else:
            pack(layer)
