"""Fill a cluster with jobs that never end: how much of it can be given out, and what is left in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from clustersim.policies.cluster import Demand, Placement
from clustersim.policies.cluster.fgd import Typical, Typicals, typicals
from clustersim.rng import Streams
from clustersim.sim.cluster.nodes import PoolNodes
from clustersim.spec.jobs import JobCluster
from clustersim.workload.jobs import Jobs

Column = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """After each job that arrived: accelerators asked for so far, given out, and left as fragments."""

    arrived: Column
    given: Column
    fragments: Column
    is_placed: Column


def fill(
    cluster: JobCluster,
    jobs: Jobs,
    placement: Placement,
    typical: tuple[Typical, ...],
    streams: Streams | None = None,
) -> Filling:
    """Place *jobs* in their order, each where it fits or not at all; fragments are for *typical* demands."""
    firsts = np.cumsum([0, *(group.nodes for group in cluster.groups)]).tolist()
    groups = list(zip(firsts, cluster.groups, strict=False))
    nodes = PoolNodes(groups, True, _draws(streams or Streams(0)))
    known = typicals(typical, nodes.kind_names)
    fragments = known.fragments(nodes.left, nodes.cpus_free, nodes.kind)
    rows = list[tuple[float, float, float, bool]]()
    arrived = given = 0.0
    for demand in _demands(jobs):
        placed = _place(demand, nodes, placement)
        size = demand.accelerators * demand.share
        arrived, given = arrived + size, given + size * placed
        if placed:
            _update(fragments, known, nodes, nodes.changes[-1])
        rows.append((arrived, given, float(fragments.sum()), placed))
    columns = np.array(rows, dtype=float).reshape(len(rows), 4)
    return Filling(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3].astype(bool))


def _place(demand: Demand, nodes: PoolNodes, placement: Placement) -> bool:
    found = placement.place(demand, nodes)
    if found is None:
        return False
    device = placement.device(demand, found[0][0], nodes) if demand.share < 1.0 else None
    nodes.take(demand, found, device)
    return True


def _update(fragments: Column, known: Typicals, nodes: PoolNodes, node: int) -> None:
    row = slice(node, node + 1)
    fragments[row] = known.fragments(nodes.left[row], nodes.cpus_free[row], nodes.kind[row])


def _demands(jobs: Jobs) -> Iterator[Demand]:
    columns = (jobs.accelerators, jobs.kinds, jobs.share, jobs.cpus, jobs.memory_bytes)
    return (Demand(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def _draws(streams: Streams) -> Iterator[float]:
    generator = streams.get("placement")
    while True:
        yield from generator.random(1024).tolist()
