"""How much of its data sheet an accelerator reaches, kernel by kernel, each with source and error.

A card holds what was measured for one vendor's generation and inherits the rest, curve by curve, from the
card it names; what differs between serving engines stands under ``stacks``. Every curve says which card it
comes from, so that a price can say whether it rests on measurements of its own hardware.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from clustersim.errors import UnknownNameError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import Spec, card_data, card_files, load_card
from clustersim.spec.source import Source
from clustersim.units import Seconds

FOLDER: Final = "topologies/efficiency"
GENERIC: Final = "generic"
SECTIONS: Final = ("gemm", "prefill", "decode", "experts", "collectives", "levels")
SINGLES: Final = ("elementwise", "latent_decode")

Share = Annotated[float, Field(gt=0, le=1.3)]
Operation = Literal[
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "reduce",
    "send_recv",
    "barrier",
]


class Error(Spec):
    """How far a curve lies from measurements: mean and 90th percentile of abs(predicted / measured - 1)."""

    mape: float = Field(ge=0)
    p90: float | None = Field(None, ge=0)
    rows: int | None = Field(None, gt=0)
    split: Literal["held-out", "in-sample"]
    against: str = Field(min_length=3)
    """Which measurements."""


class Curve(Spec):
    """What every curve states besides its numbers."""

    card: str = ""
    """The card that holds it; filled in on reading."""
    source: Source
    error: Error | None = None


class Quantise(Spec):
    """The kernel that turns 16-bit activations into the format of a product."""

    memory_share: Share
    launch: Seconds = 0.0


class Roofline(Curve):
    """``launch + [(flop / (compute_share P))^norm + (bytes / (memory_share BW))^norm]^(1/norm)``."""

    compute_share: Share
    memory_share: Share
    launch: Seconds
    norm: float = Field(ge=0.3, le=20)


class GemmCurve(Roofline):
    """A product with weights in one format."""

    quantise: Quantise | None = None


class ElementwiseCurve(Curve):
    """A kernel bound by memory alone."""

    memory_share: Share
    launch: Seconds


class PrefillCurve(Roofline):
    """Attention of prompts: efficiency grows with context and with how many processors have work."""

    half_tokens: float = Field(ge=0)
    fill_power: float = Field(ge=0, le=2)


class DecodeCurve(Roofline):
    """Attention of single new tokens: cache reads against query-key products.

    Where unpacking the cache is what binds, *element_flop* is its cost: operations at the full peak that
    one cached element takes.
    """

    element_flop: float = Field(0.0, ge=0)


class ExpertCurve(Roofline):
    """Grouped products of a mixture of experts."""

    token: Seconds
    """Routing and permutation, seconds a token."""
    skew: dict[int, float] = Field(default_factory=dict)
    """By expert-parallel ranks: the busiest rank's time over the mean, for passes of many tokens."""


class Protocol(Spec):
    """``[(launch + steps step)^norm + (crossings bytes / (link_share link))^norm]^(1/norm)``."""

    launch: Seconds
    step: Seconds
    link_share: Share
    norm: float = Field(1.0, ge=0.3, le=20)
    direct: bool = False
    """Each rank reads all the others' whole buffers in one step, instead of in pieces."""
    in_network: bool = False
    """The switch adds up and copies, as NVLS does: a rank sends its buffer once, and its share back."""
    copies: float = Field(0.0, ge=0, le=5)
    """How often the buffer passes besides through the rank's own memory, in time of crossings of the link."""


class CollectiveCurve(Curve):
    """A collective takes the time of the fastest of its protocols."""

    protocols: tuple[Protocol, ...] = Field(min_length=1)


class Level(Curve):
    """Power drawn while bound by one part of the price, as a share of the board's limit."""

    power_share: float = Field(ge=0, le=1.2)


class Curves(Spec):
    """The curves of one card, or of one engine on it; what is absent is inherited."""

    gemm: dict[str, GemmCurve] = Field(default_factory=dict)
    """By number format of the weights."""
    elementwise: ElementwiseCurve | None = None
    prefill: dict[str, PrefillCurve] = Field(default_factory=dict)
    """By number format of the cache, as ``decode``."""
    decode: dict[str, DecodeCurve] = Field(default_factory=dict)
    latent_decode: DecodeCurve | None = None
    experts: dict[str, ExpertCurve] = Field(default_factory=dict)
    """By number format of the weights."""
    collectives: dict[str, dict[Operation, CollectiveCurve]] = Field(default_factory=dict)
    """By library (``nccl``, an engine's own kernels, ``pcie``), then by operation."""
    levels: dict[Literal["compute", "memory", "network", "overhead"], Level] = Field(default_factory=dict)

    def over(self, base: Curves) -> dict[str, Any]:
        """Return the fields of *base* with those that this one has laid over them."""
        return _laid_over(_fields(self), _fields(base))


class Efficiency(Curves):
    """The curves of one generation of accelerators, complete: what its card lacks is inherited."""

    name: str
    inherits: str = ""
    elementwise: ElementwiseCurve
    latent_decode: DecodeCurve
    stacks: dict[str, Curves] = Field(default_factory=dict)
    """What differs where a serving engine brings its own kernels, by the name of the stack."""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, value: Any) -> Any:
        return _inherited(value) if isinstance(value, dict) else value

    def for_stack(self, *names: str) -> Efficiency:
        """Return the curves as the first of the stacks *names* that the card knows has them."""
        for name in names:
            if name in self.stacks:
                return self.model_copy(update=self.stacks[name].over(self))
        return self

    @property
    def provenance(self) -> str:
        """Where each curve comes from, one a line: the class, the card, the kind of source and the error."""
        return "\n".join(f"{name}: {_origin(curve)}" for name, curve in self.curves())

    def curves(self) -> Iterator[tuple[str, Curve]]:
        """Yield every curve with its name, such as ``gemm.bf16``."""
        for section in SECTIONS:
            for key, curve in getattr(self, section).items():
                if isinstance(curve, Curve):
                    yield f"{section}.{key}", curve
                else:
                    yield from ((f"{section}.{key}.{operation}", c) for operation, c in curve.items())
        yield from ((name, getattr(self, name)) for name in SINGLES if getattr(self, name))


def efficiency_of(accelerator: Accelerator) -> Efficiency:
    """Return the curves of the generation of *accelerator*, or the generic ones where it has none.

    A card of its own goes first, then one for its kind of link: workstation parts differ from the
    data-centre parts of one generation.
    """
    vendor, generation = accelerator.vendor, accelerator.generation
    candidates = (accelerator.name, f"{generation}-{accelerator.link}", generation)
    names = [f"{vendor}-{candidate}".lower().replace(" ", "-") for candidate in candidates]
    return load_efficiency(next((name for name in names if name in card_files(FOLDER)), GENERIC))


def load_efficiency(name: str) -> Efficiency:
    """Return the catalogue's efficiency card *name*."""
    if name not in card_files(FOLDER):
        raise UnknownNameError("efficiency card", name, card_files(FOLDER))
    return load_card(Efficiency, FOLDER, name)


def _origin(curve: Curve) -> str:
    error = curve.error
    known = f", MAPE {error.mape:.1%} {error.split} against {error.against}" if error else ", error unknown"
    return f"{curve.source.kind} ({curve.card}): {curve.source.source}{known}"


def _inherited(card: dict[str, Any]) -> dict[str, Any]:
    """Return the plain data of *card* with that of the cards it inherits from under it."""
    card = _marked(card, str(card.get("name", "")))
    base = card.get("inherits")
    return _laid_over(card, _inherited(card_data(FOLDER, base))) if base else card


def _marked(card: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the plain data of *card* with the name of the card written into each of its curves."""
    marked: dict[str, Any] = {}
    for key, value in card.items():
        if isinstance(value, dict):
            inner = _marked(value, name)
            marked[key] = {"card": name, **inner} if "source" in value and key != "source" else inner
        else:
            marked[key] = value
    return marked


def _laid_over(card: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return *base* with *card* laid over it: sections key by key, curves as a whole."""
    merged = {**base, **card}
    for name in (*SECTIONS, "stacks"):
        merged[name] = {**base.get(name, {}), **card.get(name, {})}
    ours, theirs = card.get("collectives", {}), base.get("collectives", {})
    merged["collectives"] = {key: {**theirs.get(key, {}), **ours.get(key, {})} for key in {**theirs, **ours}}
    return merged


def _fields(curves: Curves) -> dict[str, Any]:
    """Return the sections of *curves*, and of the single ones those it has."""
    singles = {name: getattr(curves, name) for name in SINGLES if getattr(curves, name)}
    return {name: getattr(curves, name) for name in SECTIONS} | singles
