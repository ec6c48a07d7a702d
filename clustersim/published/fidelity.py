"""N3: the analytic price of a collective and its bytes on the links of an empty network take the same time.

The analytic side knows data sheets only: accelerators of a domain, its adapters, the library's latencies.
The other side lays every pair of the algorithm on the links of the built interconnect, whose adapters carry
what the library reaches, and is done when the fullest link is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.collectives import Group, Inside, Outside, group_s
from clustersim.cost.collectives.fabric import Placed, activity
from clustersim.network.build import build
from clustersim.published.tables import Claim, Result, rate
from clustersim.spec.efficiency import Operation, load_efficiency
from clustersim.spec.fabric import Fabric, LeafSpine, LinkClass, RailFatTree, ScaleUp
from clustersim.spec.transport import load_transport

Floats = NDArray[np.float64]

N3: Final = Claim(
    "N3",
    "a collective's analytic price against its bytes on the links of an empty network",
    0.01,
    "no measurement: two fidelities of one model on rail-optimised and leaf-spine networks",
)
MEMBERS: Final = 8
ADAPTER: Final = 50e9
LINK: Final = 450e9
SIZES: Final = tuple(float(2**k) for k in range(28, 35, 2))
CASES: Final[tuple[tuple[Operation, str], ...]] = (
    ("all_reduce", "ring"),
    ("all_reduce", "hierarchical"),
    ("all_reduce", "separate"),
    ("all_gather", "ring"),
    ("reduce_scatter", "ring"),
    ("reduce_scatter", "separate"),
    ("all_to_all", "exchange"),
)


def empty_network(data: Path) -> list[Result]:
    """Compute N3; the folder of measurements is not needed."""
    began = time.process_time()
    pairs = np.array([pair for nodes in (2, 4, 8, 16) for pair in _compared(nodes)])
    seconds = time.process_time() - began
    return [rate(N3, "held-out", pairs[:, 0], pairs[:, 1], seconds)]


def _compared(nodes: int) -> Iterator[tuple[float, float]]:
    """Yield the times by both fidelities on *nodes* nodes: analytic, then by the links."""
    transport = load_transport("roce")
    inside = Inside(MEMBERS, LINK, load_efficiency("nvidia-hopper").collectives["nccl"])
    group = Group(inside, (Outside(nodes, MEMBERS * ADAPTER, transport),))
    for operation, algorithm in CASES:
        crossing = {"exchange": transport.exchange, "hierarchical": transport.tree}
        share = crossing.get(algorithm, transport.ring).protocols[0].link_share
        for fabric in _fabrics(nodes, share):
            placed = Placed(build(fabric), np.arange(nodes * MEMBERS), inside, ADAPTER, transport)
            for size in SIZES:
                analytic = float(group_s(group, operation, np.array([size]), algorithm)[0])
                yield analytic, _by_links_s(placed, operation, algorithm, size)


def _by_links_s(placed: Placed, operation: Operation, algorithm: str, size_bytes: float) -> float:
    return activity(placed, operation, size_bytes, algorithm).alone_s(placed.topology, size_bytes)


def _fabrics(nodes: int, share: float) -> Iterator[Fabric]:
    """Yield interconnects of *nodes* nodes without oversubscription, whose adapters carry *share*."""
    adapter = LinkClass(bandwidth=ADAPTER, efficiency=share)
    links = {"host": adapter, "leaf": LinkClass(bandwidth=8 * ADAPTER), "scale_up": LinkClass(bandwidth=LINK)}
    domain = ScaleUp(size=MEMBERS)
    yield RailFatTree(
        name="rails", nodes=nodes, rails=MEMBERS, nodes_per_leaf=nodes, spines=2,
        links=links, scale_up=domain, routing={"mode": "ideal"},
    )  # fmt: skip
    yield LeafSpine(
        name="leaves", leaves=nodes, hosts_per_leaf=MEMBERS, spines=2,
        links=links, scale_up=domain, routing={"mode": "ideal"},
    )  # fmt: skip
