"""Linear layers laid out for oneDNN give what torch's own give."""

import pytest
import torch
from torch import nn

from model import packed
from model.packed import PackedLinear, pack


@pytest.fixture(autouse=True)
def of_any_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_mkl_knows", lambda: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["laid out", "as it is"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 40)])
def test_a_packed_layer_gives_what_the_layer_gave(shape: tuple[int, int], bias: bool, dtype: torch.dtype) -> None:
    layer, x = nn.Linear(48, 32, bias, dtype=dtype), torch.randn(*shape, 48, dtype=dtype)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer.weight, layer.bias)(x), layer(x))


def test_packing_keeps_a_network_s_weights_and_names() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.GELU(), nn.Linear(8, 4)))
    x, before = torch.randn(3, 8), {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        wanted = network(x)
        pack(network)
        torch.testing.assert_close(network(x), wanted)
    assert sum(isinstance(m, PackedLinear) for m in network.modules()) == 2
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])
