"""Fragmentation-gradient descent: put a job where it fragments the least (Weng et al., USENIX ATC 2023).

What is left of a node's accelerators is a fragment for a demand that cannot use it: all of it where the
demand does not fit, else those accelerators that have too little left. The fragmentation of a node is the
mean over the demands that are typical. A job goes where it adds least to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from clustersim.policies.cluster.contracts import Demand, Nodes, NodesView
from clustersim.policies.cluster.placement import Packed

Floats = NDArray[np.float64]
_EPS = 1e-6


class Typical(BaseModel):
    """A demand that is often made, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: PositiveFloat = 1.0
    accelerators: NonNegativeInt = 1
    share: float = Field(1.0, gt=0, le=1)
    cpus: NonNegativeFloat = 0.0
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Typicals:
    """Typical demands as columns."""

    weight: Floats
    count: Floats
    share: Floats
    cpus: Floats
    suits: NDArray[np.bool_]
    """For each kind of accelerator (rows) and demand, whether the demand could use it."""

    def fragments(self, left: Floats, cpus: Floats, kind: NDArray[np.int64]) -> Floats:
        """Return the fragmentation of nodes with *left* of each accelerator (a row a node) and *cpus*."""
        enough = left[:, :, None] >= self.share - _EPS
        fits = (enough.sum(axis=1) >= self.count) & (cpus[:, None] >= self.cpus - _EPS) & self.suits[kind]
        small = np.where(enough, 0.0, left[:, :, None]).sum(axis=1)
        wasted = np.where(fits & (self.count > 0), small, left.sum(axis=1)[:, None])
        fragments: Floats = wasted @ self.weight
        return fragments


@dataclass(slots=True, eq=False)
class _Scores:
    """What one demand would add to each node, as of a number of changes."""

    seen: int
    gain: Floats
    device: NDArray[np.int64]


USUAL: Final = (
    Typical(weight=0.38, share=0.5),
    Typical(weight=0.48),
    Typical(weight=0.01, accelerators=2),
    Typical(weight=0.01, accelerators=4),
    Typical(weight=0.02, accelerators=8),
)
"""Assumed: parts, whole ones and few gangs, about as in Alibaba's openb trace of 2023."""


class Fgd(Packed):
    """Takes the node whose fragmentation grows least, or shrinks most; larger jobs get empty nodes."""

    typical: tuple[Typical, ...] = Field(USUAL, min_length=1)
    levels: NonNegativeInt = Field(
        0, description="Round scores to so many levels, as Kubernetes does; 0: not."
    )

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        usable = nodes.usable(demand)
        if demand.accelerators > int(nodes.size.max()):
            return self.whole_nodes(demand.accelerators, usable, nodes)
        fine = usable >= max(demand.accelerators, 1)
        if not fine.any():
            return None
        gain = np.where(fine, self._scores(demand, nodes).gain, -np.inf)
        return ((int(np.argmax(gain)), demand.accelerators),)

    def device(self, demand: Demand, node: int, nodes: NodesView) -> int | None:
        return int(self._scores(demand, nodes).device[node])

    def _scores(self, demand: Demand, nodes: NodesView) -> _Scores:
        """Return the scores of *demand*, brought up to date where nodes have changed."""
        known = nodes.memory.get(("fgd", demand))
        if not isinstance(known, _Scores):
            known = _Scores(0, np.zeros(nodes.count), np.zeros(nodes.count, dtype=np.int64))
            nodes.memory["fgd", demand] = known
            changed = np.arange(nodes.count)
        elif known.seen == len(nodes.changes):
            return known
        else:
            changed = np.unique(np.asarray(nodes.changes[known.seen :], dtype=np.int64))
        known.gain[changed], known.device[changed] = self._gain(demand, nodes, changed)
        known.seen = len(nodes.changes)
        return known

    def _gain(
        self, demand: Demand, nodes: NodesView, rows: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Return by how much *demand* would lower the fragmentation of *rows*, and on which accelerator."""
        typicals, left = self._typicals(nodes), nodes.left[rows]
        cpus, kind = nodes.cpus_free[rows], nodes.kind[rows]
        before, after_cpus = typicals.fragments(left, cpus, kind), cpus - demand.cpus
        if demand.accelerators == 1 and demand.share < 1.0:
            choices = [self._without(left, device, demand.share) for device in range(left.shape[1])]
            after = np.array([typicals.fragments(choice, after_cpus, kind) for choice in choices])
            after[demand.share - _EPS > left.T] = np.inf
            device = np.argmax(self._rounded(before - after), axis=0)
            return self._rounded(before - after[device, np.arange(len(rows))]), device
        whole = left >= 1.0 - _EPS
        taken = whole & (np.cumsum(whole, axis=1) <= demand.accelerators)
        after = typicals.fragments(np.where(taken, 0.0, left), after_cpus, kind)
        return self._rounded(before - after), np.zeros(len(rows), dtype=np.int64)

    @staticmethod
    def _without(left: Floats, device: int, share: float) -> Floats:
        rest = left.copy()
        rest[:, device] = np.maximum(rest[:, device] - share, 0.0)
        return rest

    def _rounded(self, gain: Floats) -> Floats:
        if not self.levels:
            return gain
        with np.errstate(over="ignore"):
            rounded: Floats = np.floor(self.levels / (1.0 + np.exp(-gain)))
        return rounded

    def _typicals(self, nodes: NodesView) -> Typicals:
        known = nodes.memory.get("fgd")
        if isinstance(known, Typicals):
            return known
        found = typicals(self.typical, nodes.kind_names)
        nodes.memory["fgd"] = found
        return found


def typicals(demands: tuple[Typical, ...], kind_names: list[str]) -> Typicals:
    """Return *demands* as columns, with weights that add up to one."""
    weight = np.array([d.weight for d in demands])
    suits = [[not d.kinds or name in d.kinds for d in demands] for name in kind_names]
    return Typicals(
        weight / weight.sum(),
        np.array([float(d.accelerators) for d in demands]),
        np.array([d.share for d in demands]),
        np.array([d.cpus for d in demands]),
        np.array(suits, dtype=bool),
    )
