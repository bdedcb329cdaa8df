# SPDX-License-Identifier: Apache-2.0
"""A small Llama decoder in plain PyTorch.

The module tree carries the Hugging Face tensor names (`model.layers.0.
self_attn.q_proj.weight`, ...), so `state_dict()` is the checkpoint.  Only what
the demo needs is here: no KV cache, no dropout, no biases, tied embeddings.
"""

from dataclasses import dataclass
import math

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of one model; the field names are those of `config.json`."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 352
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 32
    max_position_embeddings: int = 512
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


def rope_tables(config):
    """Cosine and sine of every position, half-split as Hugging Face does."""
    half = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    frequencies = config.rope_theta ** -half
    positions = torch.arange(config.max_position_embeddings).float()
    angles = torch.outer(positions, frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate_half(x):
    """Maps (a, b), the two halves of the last axis, to (-b, a)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return x * scale * self.weight


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped key/values."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        width = config.hidden_size
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = nn.Linear(width, query, bias=False)
        self.k_proj = nn.Linear(width, key, bias=False)
        self.v_proj = nn.Linear(width, key, bias=False)
        self.o_proj = nn.Linear(query, width, bias=False)

    def _split(self, x, heads):
        batch, length, _ = x.shape
        return x.view(batch, length, heads, self.head_dim).transpose(1, 2)

    def forward(self, x, cos, sin, mask):
        query = self._split(self.q_proj(x), self.heads)
        key = self._split(self.k_proj(x), self.kv_heads)
        value = self._split(self.v_proj(x), self.kv_heads)
        query = query * cos + rotate_half(query) * sin
        key = key * cos + rotate_half(key) * sin
        if self.kv_heads != self.heads:
            group = self.heads // self.kv_heads
            key = key.repeat_interleave(group, dim=1)
            value = value.repeat_interleave(group, dim=1)
        query = query * (1.0 / math.sqrt(self.head_dim))
        scores = torch.matmul(query, key.transpose(-1, -2)) + mask
        mixed = torch.matmul(scores.softmax(-1), value)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """The SwiGLU feed-forward block."""

    def __init__(self, config):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config):
        super().__init__()
        eps = config.rms_norm_eps
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers and final norm: Hugging Face's `model.` prefix."""

    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Llama(nn.Module):
    """The causal language model; its embedding is also its output matrix."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self):
        depth = 2 * self.config.num_hidden_layers
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            std = 0.05 if "embed" in name else 0.7 / math.sqrt(weight.shape[1])
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                std /= math.sqrt(depth)
            nn.init.normal_(weight, std=std)

    def hidden(self, tokens, frozen_layers=0):
        """Final hidden states; the first `frozen_layers` get no gradient."""
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        mask = torch.full((length, length), float("-inf")).triu(1)
        layers = self.model.layers
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_layers):
            x = self.model.embed_tokens(tokens)
            for layer in layers[:frozen_layers]:
                x = layer(x, cos, sin, mask)
        for layer in layers[frozen_layers:]:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)

    def logits(self, hidden):
        """Scores of every vocabulary entry."""
        return functional.linear(hidden, self.model.embed_tokens.weight)

    def forward(self, tokens, frozen_layers=0):
        return self.logits(self.hidden(tokens, frozen_layers))
