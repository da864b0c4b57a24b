"""The Transformer: a compact Qwen3 (Yang et al. 2025, arXiv 2505.09388) that reads a stock Hugging Face checkpoint.

Over whole sequences, for training and as the reference; `cached_transformer.py` is the same function piece by piece. It
knows nothing about what the tokens mean.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes, under the names of Hugging Face's `Qwen3Config`."""

    vocab_size: int
    hidden_size: int = 320
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    intermediate_size: int = 960
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 4096
    torch_dtype: str = "float32"
    """What other engines compute in; ours uses float32, with weights of 8 bits unless it is told otherwise."""

    @property
    def parameters(self) -> int:
        """How many there are."""
        attention = 2 * self.hidden_size * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        block = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size + 2 * self.head_dim
        return 2 * self.vocab_size * self.hidden_size + self.num_hidden_layers * block + self.hidden_size

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of one token, in `torch_dtype`."""
        size = 4 if self.torch_dtype == "float32" else 2
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim * size

    def to_json(self) -> dict[str, Any]:
        """The `config.json` of a stock checkpoint."""
        return asdict(self) | {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "bos_token_id": None,
            "eos_token_id": None,
        }


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in the half-split form of Hugging Face. x [B, H, T, D]; cos, sin [B, 1, T, D]."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Attention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        c, d = config, config.head_dim
        self.heads, self.kv_heads, self.head_dim = c.num_attention_heads, c.num_key_value_heads, d
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * d, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * d, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * d, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * d, c.hidden_size, bias=False)
        self.q_norm = RMSNorm(d, c.rms_norm_eps)
        self.k_norm = RMSNorm(d, c.rms_norm_eps)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, C] -> queries [B, H, T, D], keys and values [B, KV, T, D]."""
        batch, length, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, length, self.heads, self.head_dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim)).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Causal where `mask` is None; else mask [B, 1, T, S] is True where a query may look."""
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=True)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return mixed


class Perceptron(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Block(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Perceptron(config)

    def feed_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + y


class Body(nn.Module):
    """All but the head."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def blocks(self) -> Iterable[Block]:
        """`layers`, as what they are."""
        return cast("Iterable[Block]", self.layers)


class SpeechTransformer(nn.Module):
    """Qwen3 without its own opinion about sampling. Parameter names are those of the checkpoint."""

    cos: Tensor
    """[P, D], as `sin`."""
    sin: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        frequency = config.rope_theta ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), frequency)
        angles = torch.cat([angles, angles], -1)  # [P, D]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def hidden(self, x: Tensor) -> Tensor:
        """Embedded sequences [B, T, C] from position 0 -> final hidden states [B, T, C]."""
        length = x.shape[1]
        cos, sin = self.cos[None, None, :length], self.sin[None, None, :length]
        for layer in self.model.blocks:
            q, k, v = layer.self_attn.project(layer.input_layernorm(x), cos, sin)
            x = layer.feed_forward(x + layer.self_attn.attend(q, k, v, None))
        normed: Tensor = self.model.norm(x)
        return normed

    def forward(self, tokens: Tensor) -> Tensor:
        """Whole sequences [B, T] -> logits [B, T, V]."""
        logits: Tensor = self.lm_head(self.hidden(self.model.embed_tokens(tokens)))
        return logits
