"""The compiled functions for few frames give what torch gives."""

import pytest
import torch

from model import few_frames
from model.streaming import ConvNeXtBlock, LocalAttention, State

MODULES = {"convnext": lambda: ConvNeXtBlock(24, 7, 2), "attention": lambda: LocalAttention(24, 3, 10)}


def _read(
    module: ConvNeXtBlock | LocalAttention, x: torch.Tensor, pieces: tuple[int, ...]
) -> tuple[torch.Tensor, State]:
    state, found = module.initial_state(len(x)), []
    for piece in x.split(pieces, 2):
        y, state = module(piece, state)
        found.append(y)
    return torch.cat(found, 2), state


@pytest.mark.parametrize("pieces", [(1, 1, 2, 3, 13), (20,)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", MODULES)
def test_few_frames_give_what_many_give(
    name: str, batch: int, pieces: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module, x = MODULES[name](), torch.randn(batch, 24, 20)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.3)
    with torch.inference_mode():
        monkeypatch.setattr(few_frames, "FEW", 0)
        wanted, wanted_state = _read(module, x, pieces)
        monkeypatch.setattr(few_frames, "FEW", 1000)
        found, state = _read(module, x, pieces)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(state, wanted_state, atol=1e-4, rtol=1e-4)


def test_what_is_learnt_is_left_to_torch() -> None:
    x = torch.randn(1, 24, 2)
    assert not few_frames.suits(x)
    with torch.no_grad():
        assert few_frames.suits(x)
        assert not few_frames.suits(x.double())
        assert not few_frames.suits(torch.randn(1, 24, few_frames.FEW + 1))
