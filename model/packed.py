"""Linear layers whose weights are laid out beforehand for oneDNN.

For single precision torch multiplies with MKL, which does not know every processor: on AMD's oneDNN is twice as fast
(237 against 105 gigaflops a core of an EPYC with Zen 5, 1024 x 1024), and it need not rearrange the weights each time.
`torch.compile` uses the same two operators. They have no public name: where they are missing, torch multiplies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
)


class PackedLinear(nn.Module):
    """A linear layer for inference. It keeps no weight as it came, except where it cannot be laid out."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Weight [out, in] and bias [out]."""
        super().__init__()
        fits = _AVAILABLE and weight.device.type == "cpu" and weight.dtype == torch.float32
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach()) if fits else None
        self.weight = None if fits else weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
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
