"""Placements: which nodes a job gets. One vector operation a job, ties to the node of the lowest number.

A job that asks for no more than a node has is kept on one node by all but ``any-free``, ``random`` and
``spread``; a larger one gets whole nodes and, for what is left, one more.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from clustersim.policies.cluster.contracts import Demand, Nodes, NodesView, Placement


class AnyFree(Placement):
    """Take whatever is free, in order of the nodes, however scattered."""

    any_free: ClassVar[bool] = True

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        return gather(demand.accelerators, nodes.usable(demand), None)


class Random(Placement):
    """Take whatever is free, from nodes in random order."""

    any_free: ClassVar[bool] = True

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        turn = int(nodes.random * nodes.count)
        step = _coprime(nodes.count, int(nodes.random * nodes.count))
        order = (turn + step * np.arange(nodes.count)) % nodes.count
        return gather(demand.accelerators, nodes.usable(demand), order)


class Spread(Placement):
    """Take one accelerator after the other, each from the node that has most left."""

    any_free: ClassVar[bool] = True

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        usable = nodes.usable(demand)
        if demand.accelerators <= 1:
            return one_node(demand, usable, int(np.argmax(usable)))
        if int(usable.sum()) < demand.accelerators:
            return None
        level = np.sort(np.concatenate([np.arange(1, n + 1) for n in usable]))[-demand.accelerators]
        taken = np.maximum(usable - level, 0)
        for node in np.flatnonzero(usable >= level)[: demand.accelerators - int(taken.sum())]:
            taken[node] += 1
        return tuple((int(node), int(taken[node])) for node in np.flatnonzero(taken))


class Packed(Placement):
    """What the placements have in common that keep a job together."""

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        usable = nodes.usable(demand)
        largest = int(nodes.size.max())
        if demand.accelerators <= largest:
            return one_node(demand, usable, self.choose(max(demand.accelerators, 1), usable, nodes))
        return self.whole_nodes(demand.accelerators, usable, nodes)

    def choose(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> int:
        """Return the node for a job that fits in one; any node that does not fit means none does."""
        return int(np.argmax(usable >= accelerators))

    def whole_nodes(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> Nodes | None:
        """Return empty nodes for a larger job, and one node more for what is left over."""
        per_node = int(nodes.size.max())
        wanted, rest = divmod(accelerators, per_node)
        empty = np.flatnonzero(usable >= per_node)
        if len(empty) < wanted:
            return None
        found = [(int(node), per_node) for node in empty[:wanted]]
        if rest:
            others = usable.copy()
            others[empty[:wanted]] = 0
            node = self.choose(rest, others, nodes)
            if others[node] < rest:
                return None
            found.append((node, rest))
        return tuple(found)


class FirstFit(Packed):
    """Take the first node that fits."""


class BestFit(Packed):
    """Take the node that the job fills best."""

    def choose(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> int:
        return fullest(accelerators, usable)


class WorstFit(Packed):
    """Take the emptiest node."""

    def choose(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> int:
        return int(np.argmax(usable))


class Consolidate(Packed):
    """Take the fullest node that fits, or empty nodes; what is left over goes to the emptiest node.

    The rule of the Helios study (Hu et al., SC 2021).
    """

    def choose(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> int:
        return fullest(accelerators, usable)

    def whole_nodes(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> Nodes | None:
        per_node = int(nodes.size.max())
        wanted, rest = divmod(accelerators, per_node)
        order = np.argsort(-usable, kind="stable")[: wanted + bool(rest)]
        if len(order) < wanted + bool(rest) or (wanted and usable[order[wanted - 1]] < per_node):
            return None
        if rest and usable[order[-1]] < rest:
            return None
        takes = [per_node] * wanted + [rest] * bool(rest)
        return tuple((int(node), take) for node, take in zip(order, takes, strict=True))


class Buddy(Packed):
    """Give each job an aligned block of a power of two, of the fullest node that has one (HiveD, OSDI 2020).

    Blocks need no bookkeeping: a node whose free accelerators are at least the block has one, because every
    job takes a block and blocks of powers of two pack without holes.
    """

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        block = 1 << max(demand.accelerators - 1, 0).bit_length()
        largest = int(nodes.size.max())
        usable = nodes.usable(demand)
        if block > largest:
            return self.whole_nodes(demand.accelerators, usable, nodes)
        return one_node(demand, usable, fullest(block, usable), block)


class RackAware(Packed):
    """Keep a job in the rack (pod, rail group) that it fills best; across racks only if none holds it."""

    hard: bool = False
    """True: a job that no rack could hold now waits."""

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        usable, largest = nodes.usable(demand), int(nodes.size.max())
        if demand.accelerators <= largest:
            return one_node(demand, usable, fullest(max(demand.accelerators, 1), usable))
        free = np.bincount(nodes.rack, np.where(usable >= largest, usable, 0)).astype(int)
        for rack in np.argsort(free, kind="stable"):
            if free[rack] >= demand.accelerators:
                found = self.whole_nodes(demand.accelerators, np.where(nodes.rack == rack, usable, 0), nodes)
                if found is not None:
                    return found
        return None if self.hard else self.whole_nodes(demand.accelerators, usable, nodes)

    def choose(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> int:
        return fullest(accelerators, usable)


class ContentionAware(Packed):
    """Put jobs that span nodes where the fewest others use the network; pack the small ones."""

    def choose(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> int:
        return fullest(accelerators, usable)

    def whole_nodes(self, accelerators: int, usable: np.ndarray, nodes: NodesView) -> Nodes | None:
        """Return the nodes with the least traffic, in racks with the least of it."""
        traffic = nodes.traffic()
        by_rack = np.bincount(nodes.rack, traffic)[nodes.rack]
        order = np.lexsort((np.arange(nodes.count), traffic, by_rack))
        found = super().whole_nodes(accelerators, usable[order], nodes)
        return None if found is None else tuple((int(order[node]), taken) for node, taken in found)


def fullest(accelerators: int, usable: np.ndarray) -> int:
    """Return the node with the least that still fits; any node that does not fit means none does."""
    return int(np.argmin(np.where(usable >= accelerators, usable, np.iinfo(np.int64).max)))


def one_node(demand: Demand, usable: np.ndarray, node: int, at_least: int = 1) -> Nodes | None:
    """Return *node* for the whole of *demand*, or None if it has too little."""
    fits = usable[node] >= max(demand.accelerators, at_least)
    return ((node, demand.accelerators),) if fits else None


def gather(accelerators: int, usable: np.ndarray, order: np.ndarray | None) -> Nodes | None:
    """Return so many accelerators from the nodes in *order*, or None if there are too few."""
    seen = usable if order is None else usable[order]
    if accelerators <= 1:
        place = int((seen > 0).argmax())
        node = place if order is None else int(order[place])
        return ((node, accelerators),) if seen[place] else None
    ends = np.cumsum(seen)
    last = int(np.searchsorted(ends, accelerators))
    if last == len(ends):
        return None
    found, left = [], accelerators
    for place in np.flatnonzero(seen[: last + 1]).tolist():
        taken = min(int(seen[place]), left)
        found.append((place if order is None else int(order[place]), taken))
        left -= taken
    return tuple(found)


def _coprime(n: int, start: int) -> int:
    step = max(start, 1)
    while np.gcd(step, n) != 1:
        step += 1
    return step
