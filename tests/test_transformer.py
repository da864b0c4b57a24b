"""The Transformer: the same numbers as `transformers`, and the same in the cache as without."""

from pathlib import Path

import pytest
import torch

from model.cached_transformer import CachedTransformer, KVCache
from model.checkpoint import SpeechModel
from model.packed import PackedLinear
from model.transformer import SpeechTransformer


@pytest.fixture(scope="module")
def net(tiny: SpeechModel) -> SpeechTransformer:
    return tiny.transformer


def _tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 280, (batch, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.filterwarnings("ignore")
def test_logits_are_those_of_transformers_on_the_same_checkpoint(tiny_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    from model.checkpoint import load

    reference = AutoModelForCausalLM.from_pretrained(tiny_dir, dtype=torch.float32)
    tokens = _tokens(2, 40)
    with torch.inference_mode():
        torch.testing.assert_close(load(tiny_dir).transformer(tokens), reference(tokens).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("slots", [[3, 1], [2]])
def test_extending_piece_by_piece_gives_what_the_whole_gives(net: SpeechTransformer, slots: list[int]) -> None:
    tokens, cache, cached = _tokens(len(slots), 30), KVCache(net.config, 4, 64), CachedTransformer(net, PackedLinear)
    pieces = []
    for first, last in ((0, 7), (7, 8), (8, 25), (25, 30)):
        lengths = torch.full((len(slots),), first)
        pieces.append(cached.extend(tokens[:, first:last], torch.tensor(slots), lengths, cache))
    torch.testing.assert_close(net.lm_head(torch.cat(pieces, 1)), net(tokens), atol=1e-4, rtol=1e-4)


def test_weights_of_8_bits_change_little(net: SpeechTransformer) -> None:
    tokens, cache, cached = _tokens(1, 30), KVCache(net.config, 1, 64), CachedTransformer(net)
    slot = torch.tensor([0])
    pieces = [cached.extend(tokens[:, i : i + 1], slot, torch.tensor([i]), cache) for i in range(30)]
    wanted = net.hidden(net.model.embed_tokens(tokens))
    assert float((torch.cat(pieces, 1) - wanted).norm() / wanted.norm()) < 0.03


@pytest.mark.parametrize("slots", [(0, 1), (9, 0), (5, 3)])
def test_rows_of_different_length_do_not_disturb_each_other(net: SpeechTransformer, slots: tuple[int, int]) -> None:
    long, short = _tokens(1, 20), _tokens(1, 5)
    cache, cached, where = KVCache(net.config, 10, 64), CachedTransformer(net, PackedLinear), torch.tensor(slots)
    padded = torch.cat([long, torch.nn.functional.pad(short, (0, 15))])
    cached.extend(padded, where, torch.tensor([0, 0]), cache)
    following = torch.tensor([[1], [2]])
    together = cached.extend(following, where, torch.tensor([20, 5]), cache)
    alone = net(torch.cat([short, following[1:]], 1))[:, -1]
    torch.testing.assert_close(net.lm_head(together[1, -1:]), alone, atol=1e-4, rtol=1e-4)


def test_a_sequence_longer_than_the_cache_is_refused(net: SpeechTransformer) -> None:
    with pytest.raises(ValueError, match="at most 8 tokens"):
        CachedTransformer(net).extend(_tokens(1, 9), torch.tensor([0]), torch.tensor([0]), KVCache(net.config, 1, 8))
