"""Encoders and encoder-decoders (BERT, T5) as dimensions, parameters and operators. No clock, no hardware."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.models.operators import Attention, Elementwise, Gemm, Operator, split

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bidirectional(Attention):
    """Attention in which every query sees every key, those of *past* included."""

    def flop(self, tokens: Floats, past: Floats) -> Floats:
        """Return the FLOPs of one layer for *tokens* queries; *past* are keys without a query."""
        return self.pair_flop * tokens * (tokens + past)


@dataclass(frozen=True, slots=True)
class Cross(Attention):
    """Attention of a decoder's tokens to an encoder's: *past* of them."""

    def flop(self, tokens: Floats, past: Floats) -> Floats:
        """Return the FLOPs of one layer for *tokens* queries and *past* keys of the encoder."""
        return self.pair_flop * tokens * past


@dataclass(frozen=True, slots=True)
class Encoder:
    """The dimensions of a stack of encoder layers, and of decoder layers that attend to it."""

    layers: int
    hidden: int
    heads: int
    head_size: int
    ffn: int
    vocabulary: int = 0
    positions: int = 0
    """Learned ones, and types of segments."""
    decoder_layers: int = 0
    gated: bool = False

    @property
    def attention_elements(self) -> int:
        """Weights of one attention: queries, keys, values and output."""
        return 4 * self.hidden * self.heads * self.head_size

    @property
    def layer_elements(self) -> int:
        """Weights of one encoder layer; biases and norms (below 0.2 %) are left out."""
        return self.attention_elements + (3 if self.gated else 2) * self.hidden * self.ffn

    @property
    def parameters(self) -> int:
        """All weights; a decoder layer has a second attention, the head shares the embeddings."""
        layers = (self.layers + self.decoder_layers) * self.layer_elements
        tables = (self.vocabulary + self.positions) * self.hidden
        return layers + self.decoder_layers * self.attention_elements + tables


def encoder_operators(model: Encoder, tensor: int = 1) -> tuple[Operator, ...]:
    """Return the operators over the encoder's tokens on one of *tensor* ranks."""
    return tuple(_stack(model, model.layers, "encoder", tensor))


def decoder_operators(model: Encoder, tensor: int = 1) -> tuple[Operator, ...]:
    """Return the operators over the decoder's tokens; its cross attention sees the encoder's as past.

    The keys and values of the encoder's tokens are a product of the encoder's output: ``memory`` counts for
    the encoder's tokens, all others for the decoder's.
    """
    if not model.decoder_layers:
        return ()
    width = split(model.heads, tensor) * model.head_size
    layers = model.decoder_layers
    return (
        *_stack(model, layers, "decoder", tensor),
        Gemm("cross query", layers, width, model.hidden),
        Gemm("memory", layers, 2 * width, model.hidden),
        Gemm("cross output", layers, model.hidden, width),
        _attention(model, layers, "cross attention", tensor, Cross),
        Elementwise("cross norm", layers, 4.0 * model.hidden),
        Gemm("logits", 1, split(model.vocabulary, tensor), model.hidden, "logits"),
    )


def _stack(model: Encoder, layers: int, name: str, tensor: int) -> Iterator[Operator]:
    width, ffn = split(model.heads, tensor) * model.head_size, split(model.ffn, tensor)
    up = 2 if model.gated else 1
    kind = Bidirectional if name == "encoder" else Attention
    yield Gemm(f"{name} qkv", layers, 3 * width, model.hidden)
    yield _attention(model, layers, f"{name} attention", tensor, kind)
    yield Gemm(f"{name} attention output", layers, model.hidden, width)
    yield Gemm(f"{name} up", layers, up * ffn, model.hidden)
    yield Elementwise(f"{name} activation", layers, float((up + 1) * ffn))
    yield Gemm(f"{name} down", layers, model.hidden, ffn)
    yield Elementwise(f"{name} norms", layers, 8.0 * model.hidden)


def _attention(model: Encoder, layers: int, name: str, tensor: int, kind: type[Attention]) -> Attention:
    heads = split(model.heads, tensor)
    width = float(heads * model.head_size)
    return kind(name, layers, 0, heads, 4.0 * width, 4.0 * width, 2.0 * width, 2.0 * width, 2.0 * width)


def forward_flop(operators: tuple[Operator, ...], tokens: float, encoded: float = 0.0) -> float:
    """Return the FLOPs of a forward pass over *tokens*, which attend across to *encoded* ones."""
    new, seen = np.array([tokens]), np.array([encoded])
    total = 0.0
    for operator in operators:
        if isinstance(operator, Attention):
            past = seen if isinstance(operator, Cross) else np.zeros(1)
            total += operator.layers * float(operator.flop(new, past)[0])
        elif isinstance(operator, Gemm):
            rows = seen if operator.name == "memory" else new
            total += operator.layers * float(operator.flop(rows)[0])
    return total
