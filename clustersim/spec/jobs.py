"""A cluster that jobs share: its nodes, who may use how many, and how it decides. Descriptions only."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, SerializeAsAny, model_validator

from clustersim.errors import FieldError
from clustersim.policies.cluster import JobScheduler, Placement
from clustersim.policies.cluster.ordering import Fifo
from clustersim.policies.cluster.placement import Consolidate
from clustersim.policies.registry import by_name
from clustersim.spec.base import Spec, card
from clustersim.spec.node import Node
from clustersim.units import Bytes, Seconds


class NodeGroup(Spec):
    """Equal nodes side by side."""

    nodes: PositiveInt
    node: Annotated[Node, card("topologies/nodes")] | None = Field(
        None, description="A card of the catalogue, which knows the accelerators."
    )
    accelerators: NonNegativeInt | None = Field(None, description="Of each node; the card's if not given.")
    kind: str | None = Field(None, description="Name of the accelerators; the card's if not given.")
    queue: str = Field("", description="The virtual cluster that owns these nodes; empty: everybody's.")
    cpus: NonNegativeFloat = Field(0.0, description="Processor cores of each node; 0: not counted.")
    memory: Bytes = Field(0.0, description="Host memory of each node; 0: not counted.")
    rack_nodes: PositiveInt = Field(8, description="Nodes in a rack (or pod, or rail group).")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.node is None and self.accelerators is None:
            raise FieldError("accelerators", "give a node of the catalogue or the accelerators of each node")
        return self

    @property
    def accelerators_per_node(self) -> int:
        """Accelerators of one node."""
        if self.accelerators is not None:
            return self.accelerators
        return self.node.accelerators if self.node else 0

    @property
    def accelerator_kind(self) -> str:
        """What its accelerators are called."""
        if self.kind is not None:
            return self.kind
        return self.node.accelerator.name if self.node else ""


class Drain(Spec):
    """Nodes that take no new jobs for a while."""

    first: NonNegativeInt = Field(description="Number of the first node, over all groups.")
    nodes: PositiveInt = 1
    start: Seconds
    end: Seconds
    evict: bool = Field(False, description="Whether what runs there is stopped, and waits again.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.end <= self.start:
            raise FieldError("end", f"{self.end:g} s is not after the start, {self.start:g} s")
        return self


class JobCluster(Spec):
    """The nodes that jobs share, and what is due to whom."""

    groups: tuple[NodeGroup, ...] = Field(min_length=1)
    quotas: dict[str, NonNegativeInt] = Field(
        default_factory=dict, description="Accelerators due to a virtual cluster on nodes that it shares."
    )
    borrow: bool = Field(
        False, description="Whether a virtual cluster may exceed its quota while others idle."
    )
    drains: tuple[Drain, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        count = sum(group.nodes for group in self.groups)
        for number, drain in enumerate(self.drains):
            if drain.first + drain.nodes > count:
                raise FieldError(f"drains.{number}.first", f"the cluster has nodes 0 to {count - 1}")
        return self

    @property
    def accelerators(self) -> int:
        """Accelerators of all nodes."""
        return sum(group.nodes * group.accelerators_per_node for group in self.groups)


class RestartCost(Spec):
    """How long a job of up to so many accelerators computes nothing when it starts again."""

    accelerators: PositiveInt | None = Field(None, description="Up to this size; not given: any larger one.")
    cost: Seconds


class Scheduling(Spec):
    """How the cluster decides."""

    scheduler: Annotated[SerializeAsAny[JobScheduler], by_name(JobScheduler)] = Fifo(kind="fifo")
    placement: Annotated[SerializeAsAny[Placement], by_name(Placement)] = Consolidate(kind="consolidate")
    round: Annotated[Seconds, Field(gt=0)] | None = Field(
        None, description="Decide only at multiples of this time; by default at every event."
    )
    estimates: Literal["given", "limit", "oracle"] = Field(
        "given", description="What schedulers are told of durations; oracle: the truth, as an upper bound."
    )
    restart: tuple[RestartCost, ...] = Field((), description="Costs of starting again, from small to large.")
    scaling: float = Field(
        1.0, ge=0, le=1, description="Exponent of speed in accelerators, for jobs without known speeds."
    )
    across_nodes: float = Field(
        1.0, gt=0, le=1, description="Speed of a job spread over more nodes than it needs."
    )

    def restart_s(self, accelerators: int) -> float:
        """Return how long a job of this size computes nothing when it starts again."""
        for entry in self.restart:
            if entry.accelerators is None or accelerators <= entry.accelerators:
                return entry.cost
        return 0.0
