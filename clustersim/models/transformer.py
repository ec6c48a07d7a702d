"""A decoder-only transformer as its dimensions: parameters, key-value cache, operations. No clock, no hardware."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434); ranks and sizes in elements."""

    kv_rank: int
    rope_size: int
    nope_size: int
    value_size: int
    q_rank: int = 0
    """Rank of the query compression; 0 = none."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts: *layers* of the model's layers have it, the others a dense feed-forward."""

    experts: int
    top_k: int
    ffn: int
    """Inner width of one expert."""
    layers: int
    shared: int = 0
    """Experts that every token visits."""
    shared_ffn: int = 0
    """Inner width of all shared experts together."""


@dataclass(frozen=True, slots=True)
class Transformer:
    """The dimensions of a decoder-only language model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    max_context: int
    gated: bool = True
    tied_embeddings: bool = False
    qkv_bias: bool = False
    learned_positions: int = 0
    window_tokens: int = 0
    """Length of the sliding window; 0 = none."""
    window_layers: int = 0
    """How many of the layers have it."""
    latent: Latent | None = None
    experts: Experts | None = None
