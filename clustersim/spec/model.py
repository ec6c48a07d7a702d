"""A language model as its dimensions, with the totals its makers publish."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from clustersim.errors import ClusterSimError, FieldError
from clustersim.models import transformer
from clustersim.spec.base import Spec
from clustersim.spec.huggingface import from_config, is_config
from clustersim.spec.source import Source
from clustersim.units import Bytes

Part = Literal["embeddings", "lm_head", "router", "norms"]
Group = Literal["dimensions", "parameters", "active_parameters", "kv_bytes_per_token"]


class Window(Spec):
    """Sliding-window attention on some of the layers."""

    tokens: int = Field(gt=0)
    layers: int = Field(gt=0)


class Latent(Spec):
    """Multi-head latent attention; ranks and sizes in elements."""

    kv_rank: int = Field(gt=0)
    rope_size: int = Field(gt=0)
    nope_size: int = Field(gt=0)
    value_size: int = Field(gt=0)
    q_rank: int = Field(0, ge=0)
    """Rank of the query compression; 0 = none."""


class Experts(Spec):
    """A mixture of experts on some of the layers."""

    experts: int = Field(gt=0)
    top_k: int = Field(gt=0)
    ffn: int = Field(gt=0)
    """Inner width of one expert."""
    layers: int = Field(gt=0)
    shared: int = Field(0, ge=0)
    """Experts that every token visits."""
    shared_ffn: int = Field(0, ge=0)
    """Inner width of all shared experts together."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_k > self.experts:
            raise FieldError("top_k", f"exceeds the {self.experts} experts")
        if bool(self.shared) != bool(self.shared_ffn):
            raise FieldError("shared_ffn", "and 'shared' go together")
        return self


class Published(Spec):
    """Totals as published; a test recomputes them from the dimensions."""

    parameters: float | None = Field(None, gt=0)
    active_parameters: float | None = Field(None, gt=0)
    active_excludes: tuple[Part, ...] = ()
    """What the makers leave out of their count of active parameters."""
    kv_bytes_per_token: Bytes | None = None
    """At two bytes an element, in all layers."""
    tolerance: float = Field(0.02, gt=0, le=0.2)
    """Relative; more than 2 % needs a note that says why."""
    note: str = ""


class Model(Spec):
    """A decoder-only language model; a Hugging Face ``config.json`` is taken as well."""

    name: str
    family: str
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_size: int = Field(gt=0)
    ffn: int = Field(0, ge=0)
    """Inner width of the dense feed-forward; 0 where every layer has experts."""
    vocabulary: int = Field(gt=0)
    max_context: int = Field(gt=0)
    gated: bool = True
    tied_embeddings: bool = False
    qkv_bias: bool = False
    learned_positions: int = Field(0, ge=0)
    window: Window | None = None
    latent: Latent | None = None
    experts: Experts | None = None
    published: Published = Published()
    note: str = ""
    sources: dict[Group, Source] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_huggingface(cls, value: Any) -> Any:
        if not is_config(value):
            return value
        try:
            return from_config(value)
        except ClusterSimError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.heads % self.kv_heads:
            raise FieldError("kv_heads", f"must divide the {self.heads} heads")
        for name in ("window", "experts"):
            part = getattr(self, name)
            if part and part.layers > self.layers:
                raise FieldError(f"{name}.layers", f"exceeds the model's {self.layers} layers")
        if not self.ffn and not (self.experts and self.experts.layers == self.layers):
            raise FieldError("ffn", "is required: some layers have a dense feed-forward")
        return self

    @property
    def transformer(self) -> transformer.Transformer:
        """The dimensions as plain numbers, for the floors below and above."""
        own = {"layers", "hidden", "heads", "kv_heads", "head_size", "ffn", "vocabulary", "max_context"}
        own |= {"gated", "tied_embeddings", "qkv_bias", "learned_positions"}
        return transformer.Transformer(
            **{name: getattr(self, name) for name in own},
            window_tokens=self.window.tokens if self.window else 0,
            window_layers=self.window.layers if self.window else 0,
            latent=transformer.Latent(**self.latent.model_dump()) if self.latent else None,
            experts=transformer.Experts(**self.experts.model_dump()) if self.experts else None,
        )
