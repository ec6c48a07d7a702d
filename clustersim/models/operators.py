"""A transformer's shard as operators: what one rank computes and moves in a pass. No hardware, no clock.

Every operator counts for one layer and says in how many layers it occurs; FLOPs and elements are
functions of the tokens of the pass, vectorised over arrays of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clustersim.models.transformer import Experts, Latent, Transformer

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shard:
    """How the model is cut: ranks that split a layer, that hold different experts, that split one expert."""

    tensor: int = 1
    expert: int = 1
    expert_tensor: int = 1


@dataclass(frozen=True, slots=True)
class Gemm:
    """A product of the tokens' activations (tokens x *k*) with weights (*k* x *n*)."""

    name: str
    layers: int
    n: int
    k: int
    kind: Literal["gemm", "router", "logits"] = "gemm"

    def flop(self, tokens: Floats) -> Floats:
        """Return the FLOPs of one layer for *tokens* rows."""
        return 2.0 * self.n * self.k * tokens

    @property
    def weight_elements(self) -> int:
        """Elements of the weights of one layer."""
        return self.n * self.k


@dataclass(frozen=True, slots=True)
class Elementwise:
    """A kernel that moves *elements_per_token* 16-bit numbers a token and computes next to nothing."""

    name: str
    layers: int
    elements_per_token: float
    kind: Literal["elementwise"] = "elementwise"

    def bytes(self, tokens: Floats) -> Floats:
        """Return the bytes that one layer reads and writes for *tokens* tokens."""
        return 2.0 * self.elements_per_token * tokens


@dataclass(frozen=True, slots=True)
class ExpertGemm:
    """The routed experts of one rank: grouped products over the experts that the tokens visit."""

    name: str
    layers: int
    local_experts: float
    experts: int
    top_k: int
    hidden: int
    ffn: int
    """Inner width of one expert on this rank."""
    matrices: int
    kind: Literal["experts"] = "experts"

    def rows(self, tokens: Floats) -> Floats:
        """Return the token-expert pairs that land on this rank when routing is even."""
        return tokens * (self.top_k * self.local_experts / self.experts)

    def touched(self, tokens: Floats) -> Floats:
        """Return the expected number of this rank's experts that at least one token visits."""
        return self.local_experts * (1.0 - (1.0 - self.top_k / self.experts) ** tokens)

    def flop(self, tokens: Floats) -> Floats:
        """Return the FLOPs of one layer for *tokens* tokens of all ranks together."""
        return 2.0 * self.matrices * self.hidden * self.ffn * self.rows(tokens)

    @property
    def weight_elements(self) -> int:
        """Elements of the weights of one expert on this rank."""
        return self.matrices * self.hidden * self.ffn

    def activation_elements(self, tokens: Floats) -> Floats:
        """Return the elements of inputs, outputs and inner activations that one layer moves."""
        return self.rows(tokens) * (2.0 * self.hidden + self.matrices * self.ffn)


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of one rank in one layer: per query-key pair, per new token and per cached token."""

    name: str
    layers: int
    window_tokens: int
    """Length of the sliding window; 0 = the whole context."""
    heads: int
    pair_flop: float
    """FLOPs of a query-key pair in a prefill."""
    decode_pair_flop: float
    """FLOPs of a query-key pair in a decode; more than in a prefill where the latent is absorbed."""
    context_elements: float
    """Cached elements that a decode reads for one token of context."""
    prefill_context_elements: float
    """Elements that a prefill reads for one token of context."""
    new_elements: float
    """16-bit elements of queries and outputs of a new token."""
    kind: Literal["attention"] = "attention"

    def flop(self, tokens: Floats, past: Floats) -> Floats:
        """Return the FLOPs of one layer for a prompt chunk of *tokens* after *past* cached ones."""
        if not self.window_tokens:
            return self.pair_flop * (tokens * past + tokens * (tokens + 1.0) / 2.0)
        growing = np.minimum(tokens, np.maximum(0.0, self.window_tokens - past))
        pairs = growing * past + growing * (growing + 1.0) / 2.0 + (tokens - growing) * self.window_tokens
        return self.pair_flop * pairs


Operator = Gemm | Elementwise | ExpertGemm | Attention


def operators(model: Transformer, shard: Shard) -> tuple[Operator, ...]:
    """Return every operator of a forward pass of *model* on one of the ranks of *shard*."""
    return (
        Elementwise("embedding", 1, 2.0 * model.hidden),
        *_projections(model, shard.tensor),
        *_attention(model, shard.tensor),
        *_feed_forward(model, shard),
        *_elementwise(model, shard.tensor),
        Gemm("logits", 1, split(model.vocabulary, shard.tensor), model.hidden, "logits"),
    )


def split(size: int, ranks: int) -> int:
    """Return the largest share of *size* that one of *ranks* holds.

    >>> split(20, 8)
    3
    """
    return -(-size // ranks)


def local_kv_heads(model: Transformer, tensor: int) -> int:
    """Return the key-value heads of one rank; ranks beyond their number hold copies."""
    return split(model.kv_heads, tensor)


def _projections(model: Transformer, tensor: int) -> Iterator[Operator]:
    if model.latent:
        yield from _latent_projections(model, model.latent, tensor)
        return
    heads, kv_heads = split(model.heads, tensor), local_kv_heads(model, tensor)
    yield Gemm("qkv", model.layers, (heads + 2 * kv_heads) * model.head_size, model.hidden)
    yield Gemm("attention output", model.layers, model.hidden, heads * model.head_size)


def _latent_projections(model: Transformer, latent: Latent, tensor: int) -> Iterator[Operator]:
    """The latent's up-projection counts once: absorbed (decode) or not (prefill), its FLOPs are equal."""
    heads, down = split(model.heads, tensor), latent.kv_rank + latent.rope_size
    query = heads * (latent.nope_size + latent.rope_size)
    if latent.q_rank:
        yield Gemm("latent down", model.layers, latent.q_rank + down, model.hidden)
        yield Gemm("query up", model.layers, query, latent.q_rank)
    else:
        yield Gemm("query and latent down", model.layers, query + down, model.hidden)
    yield Gemm("latent up", model.layers, heads * (latent.nope_size + latent.value_size), latent.kv_rank)
    yield Gemm("attention output", model.layers, model.hidden, heads * latent.value_size)


def _attention(model: Transformer, tensor: int) -> Iterator[Operator]:
    heads = split(model.heads, tensor)
    if model.latent:
        yield _latent_attention(model, model.latent, heads)
        return
    kv = 2.0 * local_kv_heads(model, tensor) * model.head_size
    query = float(heads * model.head_size)
    full, windowed = model.layers - model.window_layers, model.window_layers
    for name, layers, window in (
        ("attention", full, 0),
        ("windowed attention", windowed, model.window_tokens),
    ):
        if layers:
            yield Attention(name, layers, window, heads, 4.0 * query, 4.0 * query, kv, kv, 2.0 * query)


def _latent_attention(model: Transformer, latent: Latent, heads: int) -> Attention:
    key, value = latent.nope_size + latent.rope_size, latent.value_size
    cached = latent.kv_rank + latent.rope_size
    return Attention(
        name="latent attention",
        layers=model.layers,
        window_tokens=0,
        heads=heads,
        pair_flop=2.0 * heads * (key + value),
        decode_pair_flop=2.0 * heads * (cached + latent.kv_rank),
        context_elements=cached,
        prefill_context_elements=float(heads * (key + value)),
        new_elements=float(heads * (cached + latent.kv_rank)),
    )


def _feed_forward(model: Transformer, shard: Shard) -> Iterator[Operator]:
    dense = model.layers - (model.experts.layers if model.experts else 0)
    if dense:
        yield from _dense(model, "feed-forward", dense, split(model.ffn, shard.tensor))
    if model.experts:
        yield from _experts(model, model.experts, shard)


def _dense(model: Transformer, name: str, layers: int, ffn: int) -> Iterator[Operator]:
    up = 2 if model.gated else 1
    yield Gemm(f"{name} up", layers, up * ffn, model.hidden)
    yield Elementwise(f"{name} activation", layers, float((up + 1) * ffn))
    yield Gemm(f"{name} down", layers, model.hidden, ffn)


def _experts(model: Transformer, moe: Experts, shard: Shard) -> Iterator[Operator]:
    yield Gemm("router", moe.layers, moe.experts, model.hidden, "router")
    yield ExpertGemm(
        name="experts",
        layers=moe.layers,
        local_experts=moe.experts / shard.expert,
        experts=moe.experts,
        top_k=moe.top_k,
        hidden=model.hidden,
        ffn=split(moe.ffn, shard.expert_tensor),
        matrices=3 if model.gated else 2,
    )
    if moe.shared_ffn:
        yield from _dense(model, "shared experts", moe.layers, split(moe.shared_ffn, shard.tensor))


def _elementwise(model: Transformer, tensor: int) -> Iterator[Operator]:
    """Two normalisations with the residual (two reads, two writes); rotary positions with the cache write."""
    for name in ("attention norm", "feed-forward norm"):
        yield Elementwise(name, model.layers, 4.0 * model.hidden)
    if model.latent:
        latent = model.latent
        rotated = (split(model.heads, tensor) + 1) * latent.rope_size + latent.kv_rank + latent.q_rank
    else:
        rotated = (split(model.heads, tensor) + local_kv_heads(model, tensor)) * model.head_size
    yield Elementwise("positions", model.layers, 2.0 * rotated)
