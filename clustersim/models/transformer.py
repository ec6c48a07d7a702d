"""A decoder-only language model as its dimensions: parameters, key-value cache. No clock, no hardware."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast


@dataclass(frozen=True, slots=True)
class WeightElements:
    """The elements of a model's weights by part; what serves to shard, quantise or price each part apart."""

    embeddings: int
    """Token embeddings, and position embeddings where they are learned."""
    lm_head: int
    """The output projection; 0 where it is the token embeddings again."""
    attention: int
    dense_ffn: int
    experts: int
    """All routed experts of all layers."""
    shared_experts: int
    router: int
    norms: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(getattr(self, part.name) for part in fields(self))


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

    @property
    def parameters(self) -> int:
        """All parameters; biases other than those of ``qkv_bias`` (below 0.1 %) are left out."""
        return self.weight_elements.total

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets: all but the routed experts it is not sent to."""
        return self.parameters - self.expert_layers * self.unvisited_experts * self.expert_elements

    @property
    def attention_parameters(self) -> int:
        """Parameters of the attention projections of all layers."""
        return self.layers * (self._latent_attention() if self.latent else self._plain_attention())

    @property
    def weight_elements(self) -> WeightElements:
        """The parameters, part by part."""
        moe = self.experts
        return WeightElements(
            embeddings=(self.vocabulary + self.learned_positions) * self.hidden,
            lm_head=0 if self.tied_embeddings else self.vocabulary * self.hidden,
            attention=self.attention_parameters,
            dense_ffn=self.dense_layers * self.ffn_elements(self.ffn),
            experts=moe.layers * moe.experts * self.expert_elements if moe else 0,
            shared_experts=moe.layers * self.ffn_elements(moe.shared_ffn) if moe else 0,
            router=moe.layers * moe.experts * self.hidden if moe else 0,
            norms=self._norm_elements(),
        )

    @property
    def expert_elements(self) -> int:
        """Parameters of one routed expert of one layer; 0 without experts."""
        return self.ffn_elements(self.experts.ffn) if self.experts else 0

    @property
    def unvisited_experts(self) -> int:
        """Routed experts of a layer that a token is not sent to."""
        return self.experts.experts - self.experts.top_k if self.experts else 0

    @property
    def expert_layers(self) -> int:
        """Layers whose feed-forward is a mixture of experts."""
        return self.experts.layers if self.experts else 0

    @property
    def dense_layers(self) -> int:
        """Layers with a dense feed-forward."""
        return self.layers - self.expert_layers

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees the whole context."""
        return self.layers - self.window_layers

    @property
    def kv_elements_per_token_per_layer(self) -> int:
        """Cached elements of one token in one layer: keys and values, or the latent and its rotary key."""
        if self.latent:
            return self.latent.kv_rank + self.latent.rope_size
        return 2 * self.kv_heads * self.head_size

    @property
    def kv_elements_per_token(self) -> int:
        """Cached elements of one token in all layers, as long as it lies inside every window."""
        return self.layers * self.kv_elements_per_token_per_layer

    def ffn_elements(self, width: int) -> int:
        """Return the parameters of a feed-forward of inner *width*: three matrices if gated, else two."""
        return (3 if self.gated else 2) * self.hidden * width

    def _plain_attention(self) -> int:
        q, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        return 2 * self.hidden * (q + kv) + (q + 2 * kv) * self.qkv_bias

    def _latent_attention(self) -> int:
        mla = cast("Latent", self.latent)
        q = self.heads * (mla.nope_size + mla.rope_size)
        query = mla.q_rank * (self.hidden + q) if mla.q_rank else self.hidden * q
        down = self.hidden * (mla.kv_rank + mla.rope_size)
        up = mla.kv_rank * self.heads * (mla.nope_size + mla.value_size)
        return query + down + up + self.heads * mla.value_size * self.hidden

    def _norm_elements(self) -> int:
        latent = self.latent.kv_rank + self.latent.q_rank if self.latent else 0
        return (2 * self.layers + 1) * self.hidden + self.layers * latent
