"""What every interconnect has: classes of links by tier, routing, scale-up domains, sources.

A *link class* belongs to a tier of the shape (``host``, ``leaf``, ``spine``, ...); numbers are those of one
link in one direction. Endpoints are accelerators, each with an adapter of its own where there is a network
outside the node; consecutive ones share a scale-up domain where *scale_up* is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from clustersim.errors import FieldError, choices
from clustersim.spec.base import Spec
from clustersim.spec.source import Source
from clustersim.units import BytesPerSecond, Seconds

Paths = Literal["ecmp", "spread", "single", "valiant"]
Mode = Literal["ecmp", "lossless-ecmp", "spray", "adaptive", "ideal", "static", "valiant"]


@dataclass(frozen=True, slots=True)
class ModeFacts:
    """How a routing mode chooses paths, and what share of the max-min rate its transport reaches."""

    paths: Paths
    efficiency: float
    source: str


MODES: Final[Mapping[str, ModeFacts]] = MappingProxyType(
    {
        "ecmp": ModeFacts("ecmp", 1.0, "definition: a hash of each flow, an ideal transport"),
        "lossless-ecmp": ModeFacts(
            "ecmp",
            0.82,
            "fitted: packet simulation (htsim, RoCE with PFC, 128 hosts, 8 MB permutation) takes 1.22 times "
            "the fluid time; other patterns 1.06 to 1.56 (2026-11)",
        ),
        "spray": ModeFacts(
            "spread",
            0.93,
            "fitted: packet simulation (htsim, NDP, 8 MB) takes 1.06 to 1.08 times the fluid time; EQDS 1.13 "
            "to 1.20 (2026-11)",
        ),
        "adaptive": ModeFacts(
            "spread", 0.95, "assumed: a group of links as one link, 5 % lost to imbalance (2026-11)"
        ),
        "ideal": ModeFacts("spread", 1.0, "definition: every path carries an equal part of every flow"),
        "static": ModeFacts("single", 1.0, "definition: the destination's number alone chooses the path"),
        "valiant": ModeFacts("valiant", 1.0, "definition: every flow detours over a place chosen by a hash"),
    }
)
"""The named routing modes; the efficiency lowers the capacity of every tier outside the scale-up domain."""


class Routing(Spec):
    """How traffic finds its way; one word names a mode."""

    mode: Mode = "ecmp"
    queue_pairs: PositiveInt = 1
    """Flows, each hashed by itself, that one transfer is divided into."""
    pxn: bool = False
    """Between rails, hop to the accelerator of one's own node that sits on the receiver's rail."""
    efficiency: Annotated[float, Field(gt=0, le=1)] | None = None
    """Instead of the mode's own."""

    @property
    def paths(self) -> Paths:
        """How paths are chosen."""
        return MODES[self.mode].paths

    @property
    def transport_share(self) -> float:
        """The share of the max-min rate that the transport reaches."""
        return MODES[self.mode].efficiency if self.efficiency is None else self.efficiency


class LinkClass(Spec):
    """One sort of link, in one direction."""

    bandwidth: Annotated[BytesPerSecond, Field(gt=0)]
    latency: Seconds = 0.0
    """From end to end, the switch that it leads into included."""
    efficiency: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the bandwidth that payload can use."""

    @property
    def capacity_bytes_per_s(self) -> float:
        """Payload that the link carries."""
        return self.bandwidth * self.efficiency


def _mode(value: Any) -> Any:
    return {"mode": value} if isinstance(value, str) else value


class ScaleUp(Spec):
    """Consecutive accelerators joined among themselves, over a switch or each to each; tier ``scale_up``."""

    size: PositiveInt
    layout: Literal["switch", "mesh"] = "switch"


class Fabric(Spec):
    """Base of every interconnect: classes of links by tier, routing, and where the numbers come from."""

    name: str = Field(min_length=1)
    links: dict[str, LinkClass] = Field(default_factory=dict)
    scale_up: ScaleUp | None = None
    routing: Annotated[Routing, BeforeValidator(_mode)] = Routing()
    note: str = ""
    sources: dict[str, Source] = Field(default_factory=dict)
    """By tier, and ``shape``."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Every tier has its class of links, every class belongs to a tier, every source to either."""
        needed = list(self.tiers)
        for tier in needed:
            if tier not in self.links:
                raise FieldError("links", f"needs the class {tier!r}; this shape has: {', '.join(needed)}")
        for name in self.links:
            if name not in (*needed, *self.optional_tiers):
                raise FieldError(f"links.{name}", f"no such tier; {choices(name, needed)}")
        known = ["shape", *self.links]
        for name in self.sources:
            if name not in known:
                raise FieldError(f"sources.{name}", f"is about nothing here; {choices(name, known)}")
        if self.scale_up is not None and self.size % self.scale_up.size:
            raise FieldError(
                "scale_up.size", f"{self.scale_up.size} does not divide the {self.size:,} accelerators"
            )
        if self.routing.pxn and self.scale_up is None:
            raise FieldError("routing.pxn", "hops inside a node first: give scale_up")
        return self

    @property
    def size(self) -> int:
        """Accelerators that the fabric joins."""
        raise NotImplementedError

    @property
    def shape_tiers(self) -> tuple[str, ...]:
        """Tiers of links outside the scale-up domains."""
        raise NotImplementedError

    @property
    def optional_tiers(self) -> tuple[str, ...]:
        """Tiers that may have a class of their own."""
        return ()

    @property
    def tiers(self) -> tuple[str, ...]:
        """Tiers that need a class of links."""
        return (*self.shape_tiers, *(("scale_up",) if self.scale_up else ()))
