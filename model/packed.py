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

    def __init__(self, weight: Tensor, bias: Tensor | None = None, parts: bool = False) -> None:
        """Weight [out, in] and bias [out]; `parts`: whether some of the outputs will be asked for (`rows`)."""
        super().__init__()
        fits = _AVAILABLE and not _mkl_knows() and weight.device.type == "cpu" and weight.dtype == torch.float32
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach()) if fits else None
        self.weight = None if fits and not parts else weight.detach()
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [..., in] -> [..., out]."""
        if self._packed is None:
            assert self.weight is not None
            return F.linear(x, self.weight, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return product

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The outputs from `start` to `stop` only."""
        assert self.weight is not None, "made without `parts`"
        return F.linear(x, self.weight[start:stop], None if self.bias is None else self.bias[start:stop])


class Int8Linear(PackedLinear):
    """A linear layer for inference with weights of 8 bits, whose rows have a scale each.

    For few inputs reading the weights is what takes the time, and these are a quarter as long: one input through the
    embedded Transformer's layers takes 1.6 ms where it took 2.4 (a core of an Intel Xeon, 2026-11-27). Products of more
    inputs are single-precision ones of the same weights. An output is 0.7 % off, inputs of few being rounded to 8 bits
    of mantissa as well.
    """

    FEW = 6
    # Without these instructions the operator takes longer than the others.
    AVAILABLE = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch, "_weight_int8pack_mm")

    def __init__(self, weight: Tensor, parts: bool = False) -> None:
        """Weight [out, in]; `parts` as in `PackedLinear`."""
        scale = (weight.detach().abs().amax(1) / 127).clamp(min=1e-12).bfloat16()  # [out]
        whole = (weight.detach() / scale.float().unsqueeze(1)).round().clamp(-128, 127).to(torch.int8)
        super().__init__(whole * scale.float().unsqueeze(1), parts=parts)
        self._scale, self._whole = scale, whole
        # The operator reads 16 inputs at a time, beyond the end, too.
        self.fast = self.AVAILABLE and weight.shape[1] % 16 == 0

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [..., in] -> [..., out]."""
        if self.fast and x.numel() <= self.FEW * x.shape[-1]:
            return self._product(x, self._whole, self._scale)
        return super().forward(x)

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The outputs from `start` to `stop` only."""
        if self.fast and x.numel() <= self.FEW * x.shape[-1]:
            return self._product(x, self._whole[start:stop], self._scale[start:stop])
        return super().rows(x, start, stop)

    @staticmethod
    def _product(x: Tensor, whole: Tensor, scale: Tensor) -> Tensor:
        inputs = x.reshape(-1, x.shape[-1]).bfloat16()
        return torch._weight_int8pack_mm(inputs, whole, scale).to(x.dtype).view(*x.shape[:-1], len(scale))


def pack(network: nn.Module) -> None:
    """Replace every linear layer in `network`, in place: for inference only, with the same names of weights."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Linear):
            packed = PackedLinear(layer.weight, layer.bias)
            packed.weight = layer.weight
            setattr(network, name, packed)
        else:
            pack(layer)
