"""A node: accelerators on one scale-up network, with a host and network adapters."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clustersim.errors import FieldError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import Spec, card
from clustersim.spec.source import Source
from clustersim.units import Bytes, BytesPerSecond, DollarsPerHour, Watts

Group = Literal["link", "network", "host", "host_memory", "power", "idle_power", "price"]


class NodeLink(Spec):
    """The scale-up network inside a node.

    A switch gives any two accelerators the whole bandwidth; in a mesh each peer gets an equal part;
    in a torus each neighbour does.
    """

    kind: Literal["nvswitch", "nvlink-mesh", "xgmi-mesh", "roce-mesh", "torus", "pcie", "none"]
    bandwidth: BytesPerSecond = 0.0
    """Of one accelerator to all its peers together, one direction."""


class Node(Spec):
    """A server, or a rack whose accelerators share one scale-up network."""

    name: str
    accelerator: Annotated[Accelerator, card("topologies/accelerators")]
    accelerators: int = Field(gt=0)
    link: NodeLink
    nics: int = Field(0, ge=0)
    """Adapters of the scale-out network."""
    nic_bandwidth: BytesPerSecond = 0.0
    """Of one adapter, one direction."""
    host_memory: Bytes = 0.0
    host_bandwidth: BytesPerSecond = 0.0
    """Between one accelerator and host memory, one direction."""
    power: Annotated[Watts, Field(gt=0)]
    """The most the chassis draws, everything included."""
    idle_power: Watts
    price_per_hour: DollarsPerHour | None = None
    note: str = ""
    sources: dict[Group, Source] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accelerators > 1 and self.link.kind != "none" and self.link.bandwidth <= 0:
            raise FieldError("link.bandwidth", f"must be positive for a link of kind {self.link.kind!r}")
        if self.idle_power > self.power:
            raise FieldError("idle_power", f"{self.idle_power:g} W exceeds the power of {self.power:g} W")
        return self

    @property
    def accelerator_memory(self) -> float:
        """Bytes of accelerator memory of the whole node."""
        return self.accelerators * self.accelerator.memory

    @property
    def network_bandwidth(self) -> float:
        """Bytes per second of all adapters together, one direction."""
        return self.nics * self.nic_bandwidth

    @property
    def host_power(self) -> float:
        """Watts of everything but the accelerators at full load: processors, adapters, fans and losses."""
        return max(0.0, self.power - self.accelerators * self.accelerator.power)

    def flop_per_s(self, number_format: str) -> float:
        """Return the dense peak of the whole node in *number_format*."""
        return self.accelerators * self.accelerator.flop_per_s(number_format)
