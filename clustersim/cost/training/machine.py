"""The machine that trains, and what its collectives take over nodes and between them. No clock.

A group of n ranks of which r share a node does a collective in rings that leave the node through the r
adapters of its ranks: the wire carries the usual (n-1)/n of the buffer at the slower of the node's link and
r adapters. An all-reduce between nodes takes a tree where its latency is lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives import collective_s, curve_of
from clustersim.errors import ClusterSimError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.efficiency import Efficiency, Operation, efficiency_of
from clustersim.spec.node import Node
from clustersim.spec.training_stack import TrainingStack

Floats = NDArray[np.float64]

HOST_SHARE: Final = 0.8
"""Of the host link that pinned copies reach (assumed: typical of PCIe, cudaMemcpy of megabytes)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Equal nodes: accelerators, the link inside a node, and adapters between nodes."""

    accelerator: Accelerator
    efficiency: Efficiency
    node_ranks: int
    """Accelerators that share one scale-up network."""
    link_bytes_per_s: float
    """Of one accelerator inside its node, one direction."""
    nic_bytes_per_s: float
    """Of one accelerator's share of the adapters, one direction."""

    @property
    def host_bytes_per_s(self) -> float:
        """What copies to the host reach; raise ClusterSimError where there is no link to it."""
        if not self.accelerator.host_bandwidth:
            raise ClusterSimError(f"{self.accelerator.name} has no host_bandwidth: nothing can be offloaded")
        return HOST_SHARE * self.accelerator.host_bandwidth

    @property
    def library(self) -> str:
        """Whose collective curves the node's link has."""
        peers = self.accelerator.link not in ("pcie", "none") and self.link_bytes_per_s > 0
        return "nccl" if peers else "pcie"


def machine_of(node: Node, efficiency: Efficiency | None = None) -> Machine:
    """Return *node* as a machine; *efficiency* by default as of its accelerator's generation."""
    accelerator = node.accelerator
    return Machine(
        accelerator,
        efficiency or efficiency_of(accelerator),
        node.accelerators,
        node.link.bandwidth or accelerator.host_bandwidth,
        node.network_bandwidth / node.accelerators or accelerator.network_bandwidth,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks of collectives, an array each over the plans: all, and how many of them share a node."""

    ranks: Floats
    local: Floats


def group(machine: Machine, ranks: Floats, stride: Floats) -> Group:
    """Return the group of *ranks* ranks that are *stride* accelerators apart."""
    local = np.clip(np.floor(machine.node_ranks / stride), 1.0, ranks)
    return Group(ranks, local)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Collectives of a machine as one software stack does them."""

    machine: Machine
    stack: TrainingStack

    def seconds(
        self, operation: Operation, who: Group, size_bytes: Floats, *, share: float | None = None
    ) -> Floats:
        """Return the seconds of *operation* on a whole buffer of *size_bytes*.

        *share* is the share of the adapters' line rate, by default that of the stack.
        """
        size = np.broadcast_to(np.asarray(size_bytes, dtype=np.float64), who.ranks.shape)
        inside = who.local >= who.ranks
        result = self._between(operation, who, size, share or self.stack.network_share)
        for ranks in np.unique(who.ranks[inside]).astype(int):
            rows = inside & (who.ranks == ranks)
            result[rows] = self._within(operation, int(ranks), size[rows])
        return result

    def dispatch_s(self, who: Group, size_bytes: Floats, copies: int) -> Floats:
        """Return the seconds in which each rank sends rows, *copies* of each, to ranks drawn evenly.

        *size_bytes* holds all copies; a stack that sends once to each node copies them there.
        """
        whole = self.seconds("all_to_all", who, size_bytes)
        if not self.stack.dispatch_once:
            return whole
        nodes = who.ranks / who.local
        reached = (nodes - 1.0) * (1.0 - (1.0 - 1.0 / nodes) ** copies) / copies
        outside = self._outside(self.stack.network_share, nodes > 1)
        inside = self.machine.link_bytes_per_s * self.stack.collective_share * LINK_SHARE
        once = np.maximum(size_bytes * reached / outside, size_bytes * (1.0 - 1.0 / who.local) / inside)
        return np.where(nodes > 1, np.minimum(whole, once + self.stack.hop), whole)

    def transfer_s(self, size_bytes: Floats, leaves_node: NDArray[np.bool_]) -> Floats:
        """Return the seconds in which one rank sends *size_bytes* to one other."""
        machine, stack = self.machine, self.stack
        inside = machine.link_bytes_per_s * stack.collective_share
        outside = self._outside(stack.network_share, leaves_node)
        rate = np.where(leaves_node, outside, inside)
        return np.asarray(size_bytes / rate + stack.hop, dtype=np.float64)

    def _within(self, operation: Operation, ranks: int, size: Floats) -> Floats:
        machine = self.machine
        curve = curve_of(machine.efficiency, machine.library, operation)
        seconds = collective_s(curve, operation, ranks, size, machine.link_bytes_per_s)
        return seconds / self.stack.collective_share

    def _outside(self, share: float, needed: NDArray[np.bool_]) -> float:
        """Return the bytes per second of one accelerator's adapters at *share* of their line rate."""
        rate = share * self.machine.nic_bytes_per_s
        if not rate and bool(np.any(needed)):
            name = self.machine.accelerator.name
            raise ClusterSimError(f"nodes of {name} have no network; keep the plan inside one node")
        return rate or 1.0

    def _between(self, operation: Operation, who: Group, size: Floats, share: float) -> Floats:
        machine, stack, n, r = self.machine, self.stack, who.ranks, who.local
        outside = self._outside(share, r < n)
        inside = machine.link_bytes_per_s * stack.collective_share * LINK_SHARE
        if operation == "all_to_all":
            return size / n * np.maximum((n - r) / outside, (r - 1.0) / inside) + stack.hop
        rate = np.where(r < n, np.minimum(inside, r * outside), inside)
        once = size * (n - 1.0) / n / rate
        nodes = n / r
        if operation != "all_reduce":
            return once + stack.hop * (nodes - 1.0) + START_S
        steps = np.minimum(2.0 * (nodes - 1.0), 2.0 * np.log2(np.maximum(nodes, 1.0)) + 2.0)
        return 2.0 * once + stack.hop * steps + START_S


LINK_SHARE: Final = 0.7
"""Of a node's link that a ring through it reaches when it goes on to other nodes (fitted: busy bandwidth of
large NCCL collectives on A100 to GB300, aiconfigurator-core 0.12)."""
START_S: Final = 20e-6
"""What a collective between nodes takes before its first byte (assumed: launch and handshake of NCCL)."""
