"""The Transformer: the same numbers as `transformers`, and the same in the cache as without."""

from pathlib import Path

import pytest
import torch

from model import cached_transformer, few_tokens
from model.cached_transformer import CachedTransformer, KVCache
from model.checkpoint import SpeechModel
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
    tokens, cache, cached = _tokens(len(slots), 30), KVCache(net.config, 4, 64), CachedTransformer(net, int8=False)
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


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_few_tokens_give_what_many_give(net: SpeechTransformer, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled step and torch's, with the same weights: by ones, by several, and on what the other has read."""
    tokens, slots = _tokens(batch, 30), torch.arange(batch).flip(0)
    found = []
    for most in (0, 1000):
        monkeypatch.setattr(cached_transformer, "FEW", most)
        cache, cached = KVCache(net.config, 6, 64), CachedTransformer(net)
        pieces = []
        for first, last in ((0, 9), (9, 10), (10, 13), (13, 30)):
            if last == 30:
                monkeypatch.setattr(cached_transformer, "FEW", 1000 - most)
            lengths = torch.full((batch,), first)
            pieces.append(cached.extend(tokens[:, first:last], slots, lengths, cache))
        hidden = torch.cat(pieces, 1)
        found.append((hidden, cached.scores(hidden[:, -1], 7, 50)))
    (hidden, scores), (other, other_scores) = found
    torch.testing.assert_close(hidden, other, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores, other_scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("few", [0, 1000])
def test_pieces_of_different_length_are_read_together(
    net: SpeechTransformer, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_transformer, "FEW", few)
    cache, cached = KVCache(net.config, 6, 64), CachedTransformer(net, int8=few > 0)
    texts = [[5, 6, 7, 8, 9], [11], [3, 4, 2]]
    cached.read([text[:2] for text in texts], [4, 0, 5], [0, 0, 0], cache)
    found = cached.read([texts[0][2:], texts[2][2:]], [4, 5], [2, 2], cache)
    for text, hidden in zip((texts[0], texts[2]), found, strict=True):
        alone = net.hidden(net.model.embed_tokens(torch.tensor([text])))[0, -1]
        assert float((hidden - alone).norm() / alone.norm()) < (0.03 if few else 1e-4)


def test_weights_of_8_bits_are_the_nearest(net: SpeechTransformer) -> None:
    weights = torch.randn(3, 5, 7) * torch.rand(3, 5, 1)
    weights[1, 2] = 0.0
    nearest = few_tokens.meaning(few_tokens.nearest(weights))
    assert ((nearest - weights).abs() <= weights.abs().amax(-1, keepdim=True) / 127 * 0.5001).all()
    assert not nearest[1, 2].any()


@pytest.mark.parametrize("slots", [(0, 1), (9, 0), (5, 3)])
def test_rows_of_different_length_do_not_disturb_each_other(net: SpeechTransformer, slots: tuple[int, int]) -> None:
    long, short = _tokens(1, 20), _tokens(1, 5)
    cache, cached, where = KVCache(net.config, 10, 64), CachedTransformer(net, int8=False), torch.tensor(slots)
    padded = torch.cat([long, torch.nn.functional.pad(short, (0, 15))])
    cached.extend(padded, where, torch.tensor([0, 0]), cache)
    following = torch.tensor([[1], [2]])
    together = cached.extend(following, where, torch.tensor([20, 5]), cache)
    alone = net(torch.cat([short, following[1:]], 1))[:, -1]
    torch.testing.assert_close(net.lm_head(together[1, -1:]), alone, atol=1e-4, rtol=1e-4)


def test_a_sequence_longer_than_the_cache_is_refused(net: SpeechTransformer) -> None:
    with pytest.raises(ValueError, match="at most 8 tokens"):
        CachedTransformer(net).extend(_tokens(1, 9), torch.tensor([0]), torch.tensor([0]), KVCache(net.config, 1, 8))
