"""The Transformer as the embedded engine runs it: tokens are added to sequences in the slots of a static KV cache.

The same function as `SpeechTransformer`, arranged for few and small operations, because at the size of the embedded
model every operation costs about as much to start as to do: norm weights are folded into the matrices behind them,
projections of the same input are one product, queries and keys are normalised and rotated together, and keys and values
are read where they lie. Attention is two plain products and a softmax: with so few queries these read the cache faster
than torch's fused operator does (16 sequences of 1200 tokens: a step takes 15 % less). Weights have 8 bits, and
a few tokens go through `few_tokens.py`, unless whole weights are asked for. It knows nothing about what tokens mean.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import few_tokens
from model.compiled import Layers
from model.packed import PackedLinear
from model.transformer import Block, SpeechTransformer, TransformerConfig

FEW = 16
"""So many tokens at most go through `few_tokens.py`."""


class KVCache:
    """Keys and values of `slots` sequences of at most `length` tokens."""

    def __init__(self, config: TransformerConfig, slots: int, length: int) -> None:
        layers, heads, size = config.num_hidden_layers, config.num_key_value_heads, config.head_dim
        self.keys = torch.zeros(layers, slots, heads, size, length)  # [L, S, H, D, T]: as their product wants them
        self.values = torch.zeros(layers, slots, heads, length, size)  # [L, S, H, T, D]
        self.slots, self.length = slots, length

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Give the slot `target` what `source` holds of the tokens from `start` to `stop`."""
        self.keys[:, target, :, :, start:stop] = self.keys[:, source, :, :, start:stop]
        self.values[:, target, :, start:stop] = self.values[:, source, :, start:stop]


def _unit(x: Tensor, eps: Tensor) -> Tensor:
    """x over its root mean square."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.rsqrt(torch.addcmul(eps, norm, norm, value=1 / x.shape[-1]))


def _to_qkv(layer: Block) -> Tensor:
    projections = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight, layer.self_attn.v_proj.weight
    return torch.cat(projections) * layer.input_layernorm.weight


def _to_out(layer: Block) -> Tensor:
    return layer.self_attn.o_proj.weight


def _to_gate_up(layer: Block) -> Tensor:
    return torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]) * layer.post_attention_layernorm.weight


def _to_down(layer: Block) -> Tensor:
    return layer.mlp.down_proj.weight


class CachedTransformer:
    """Weights of a `SpeechTransformer`, rearranged. `embeddings` are its own."""

    def __init__(self, net: SpeechTransformer, int8: bool = True) -> None:
        """`int8`: whether weights are kept as numbers of 8 bits."""
        self.config = config = net.config
        self.embeddings = net.model.embed_tokens.weight.detach()
        half = config.head_dim // 2
        self._cos, self._sin = net.cos, torch.cat([-net.sin[:, :half], net.sin[:, half:]], 1)
        self._eps = torch.tensor(config.rms_norm_eps)
        self._final = net.model.norm.weight.detach()
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        norms = []
        for layer in net.model.blocks:
            to_query = layer.self_attn.q_norm.weight.detach() * config.head_dim**-0.5
            of_keys = layer.self_attn.k_norm.weight.detach()
            norms.append(torch.cat([to_query.expand(heads, -1), of_keys.expand(kv_heads, -1)]))
        self._few = self._head = None
        head = net.lm_head.weight.detach()
        linears, whole = [], []
        for folded in (_to_qkv, _to_out, _to_gate_up, _to_down):  # one after the other: a large model has room for few
            matrices = torch.stack([folded(layer) for layer in net.model.blocks]).detach()
            if int8:
                whole.append(few_tokens.nearest(matrices))
                matrices = few_tokens.meaning(whole[-1])
            linears.append([PackedLinear(matrix) for matrix in matrices])
        if int8:
            norm, final, cos, sin = (x.numpy() for x in (torch.stack(norms), self._final, net.cos, net.sin))
            to_qkv, to_out, to_gate_up, to_down = whole
            eps = np.float32(config.rms_norm_eps)
            self._few = Layers(to_qkv, norm, to_out, to_gate_up, to_down, final, cos, sin, eps)
            self._head = few_tokens.nearest(head)
            head = few_tokens.meaning(self._head)
        self.head: Tensor = head
        """[V, C]"""
        self._layers = list(zip(norms, *linears, strict=True))

    def scores(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Final hidden states [N, C] -> logits of the tokens from `start` to `stop` [N, stop - start]."""
        if self._head is not None and len(hidden) <= FEW:
            return few_tokens.product(self._head, hidden, start, stop)
        return F.linear(hidden, self.head[start:stop])

    def _compiled(self, tokens: int) -> bool:
        """Whether so many tokens of whatever sequences go through `few_tokens.py`."""
        return self._few is not None and tokens <= FEW

    def read(self, pieces: list[list[int]], slots: list[int], lengths: list[int], cache: KVCache) -> Tensor:
        """Append a piece of at least one token to each of several sequences, as `extend` does.

        Returns the final hidden states of their last tokens [B, C].
        """
        counts = [len(piece) for piece in pieces]
        if self._compiled(sum(counts)):
            tokens = torch.tensor([token for piece in pieces for token in piece])
            widths, held = torch.tensor(counts), torch.tensor(lengths)
            ends = widths.cumsum(0)
            positions = torch.arange(len(tokens)) + (held - ends + widths).repeat_interleave(widths)
            hidden = self._extend_few(tokens, torch.tensor(slots).repeat_interleave(widths), positions, cache)
            return hidden[ends - 1]
        padded = torch.zeros(len(pieces), max(counts), dtype=torch.long)
        for row, piece in zip(padded, pieces, strict=True):
            row[: len(piece)] = torch.tensor(piece)
        hidden = self.extend(padded, torch.tensor(slots), torch.tensor(lengths), cache)
        return hidden[torch.arange(len(pieces)), torch.tensor(counts) - 1]

    def _extend_few(self, tokens: Tensor, slots: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """Tokens [N] at `positions` [N] of the sequences in `slots` [N] -> final hidden states [N, C]."""
        assert self._few is not None
        longest, last = min(cache.length, len(self._cos)), int(positions.max())
        if last >= longest:
            raise ValueError(f"expected at most {longest} tokens in a sequence, got {last + 1}")
        if int(slots.max()) >= cache.slots:
            raise ValueError(f"expected {cache.slots} slots, got number {int(slots.max())}")
        return few_tokens.extend(F.embedding(tokens, self.embeddings), slots, positions, cache, self._few)

    def extend(self, tokens: Tensor, slots: Tensor, lengths: Tensor, cache: KVCache) -> Tensor:
        """Append tokens [B, T] to the sequences in `slots` [B], which hold `lengths` [B] tokens already.

        Rows shorter than T are padded at the end with any token: padding lands behind the row, where the next call
        overwrites it. Returns final hidden states [B, T, C]. Raises ValueError if a sequence would not fit.
        """
        config, eps = self.config, self._eps
        batch, width = tokens.shape
        heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        positions = lengths[:, None] + torch.arange(width)  # [B, T]
        if self._compiled(batch * width):
            rows = slots.repeat_interleave(width)
            return self._extend_few(tokens.flatten(), rows, positions.flatten(), cache).view(batch, width, -1)
        total = int(lengths.max()) + width
        if total > cache.length:
            raise ValueError(f"expected at most {cache.length} tokens in a sequence, got {total}")
        cos, sin = self._cos[positions].unsqueeze(2), self._sin[positions].unsqueeze(2)  # [B, T, 1, D]
        # Attention reads the cache in place, over the whole range of slots in which the rows lie: reading an idle slot
        # costs less than copying the busy ones. Too sparse a range is copied all the same.
        first, last = int(slots.min()), int(slots.max())
        dense = last - first < 2 * batch
        here = slice(first, last + 1) if dense else slots
        inside = slots - first if dense else torch.arange(batch)
        range_rows = last - first + 1 if dense else batch
        # The query heads of one key head are further rows of the same product: its keys and values are read once.
        queries = torch.zeros(range_rows, heads, width, size) if batch > 1 else None
        later = torch.arange(total) > positions.repeat(1, heads // kv_heads).unsqueeze(2)
        bias = torch.zeros(range_rows, kv_heads, later.shape[1], total)
        bias[inside] = torch.zeros(later.shape).masked_fill_(later, float("-inf")).unsqueeze(1)
        bias = bias.flatten(0, 1)  # [R KV, H / KV T, S]
        rows = slots[:, None]
        x = F.embedding(tokens, self.embeddings)
        for i, (norm, to_qkv, to_out, to_gate_up, to_down) in enumerate(self._layers):
            qkv = to_qkv(_unit(x, eps)).view(batch, width, heads + 2 * kv_heads, size)
            qk = _unit(qkv[:, :, : heads + kv_heads], eps) * norm
            qk = torch.addcmul(qk * cos, qk.roll(size // 2, -1), sin)  # [B, T, H + KV, D]
            if batch == 1:  # places as numbers instead of tensors: a third of the time
                cache.keys[i][first, :, :, total - width : total] = qk[0, :, heads:].permute(1, 2, 0)
                cache.values[i][first, :, total - width : total] = qkv[0, :, heads + kv_heads :].transpose(0, 1)
                queries = qk[:, :, :heads].transpose(1, 2)
            else:
                cache.keys[i][rows, :, :, positions] = qk[:, :, heads:]
                cache.values[i][rows, :, positions] = qkv[:, :, heads + kv_heads :]
                assert queries is not None
                queries[inside] = qk[:, :, :heads].transpose(1, 2)
            keys = cache.keys[i][here, :, :, :total].flatten(0, 1)
            values = cache.values[i][here, :, :total].flatten(0, 1)
            scores = torch.baddbmm(bias, queries.reshape(range_rows * kv_heads, -1, size), keys)
            seen = torch.bmm(scores.softmax(-1), values).view(queries.shape)  # [R, H, T, D]
            if batch > 1:
                seen = seen[inside]
            x = x + to_out(seen.transpose(1, 2).flatten(2))
            gate, up = to_gate_up(_unit(x, eps)).chunk(2, -1)
            x = x + to_down(F.silu(gate) * up)
        return _unit(x, eps) * self._final
