"""N2 over networks, N3 and N4: collectives between nodes, on links, and the dispatch of tokens to experts.

Latencies between nodes are NCCL's own constants; what was fitted is marked row by row. SimAI's ratios are
rings of Simple where adapters bind, and show LL128's shorter steps where NVLink does. CoreWeave's 20 racks
are rings through a spine that passes 13.5 % of the adapters' rate, fitted on every second size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost.collectives import Group, Inside, Outside, group_s, wire_share
from clustersim.published.tables import Claim, Result, data_file, rate
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import load_card
from clustersim.spec.efficiency import Operation, efficiency_of
from clustersim.spec.transport import load_transport

Floats = NDArray[np.float64]

NODES: Final = Claim(
    "N2-nodes",
    "NCCL's collectives across 2 to 128 nodes and 1 to 20 racks of 72",
    0.10,
    "SimAI's ratio tables (Apache-2.0), CoreWeave's nccl-tests (H100, GB200 NVL72), NVIDIA/nccl issues",
    "the study's ring with one latency a step 7.9 % on the adapter-bound rows, in-sample",
)
GIGABYTE: Final = 1e9
SIMAI_ADAPTER: Final = 48.5e9
"""SimAI's nominal bytes a second of a ConnectX-7 (astra-sim-alibabacloud/astra-sim/system/calbusbw.h)."""
SIMAI_NVLINK: Final = 18 * 20.6e9
"""Its nominal rate of NCCL's rings between H100 of a node."""
SIMAI_FITTED: Final = MappingProxyType({"nic": (2, 8, 32, 128), "ata": (2, 8), "nvlink": ()})
"""Nodes of each table whose rows set the share of the adapters that is reached."""
RACK: Final = 72
SPINE_SHARE: Final = 0.135
"""Of the adapters of a rack, what CoreWeave's spine passes between 20 racks; fitted on every second size."""


@dataclass(frozen=True, slots=True)
class _Machines:
    """Equal domains over one network."""

    accelerator: str
    members: int
    adapters_bytes_per_s: float
    """Of one domain."""
    transport: str
    operation: Operation = "all_reduce"
    algorithm: str = "auto"


@dataclass(slots=True)
class _Rows:
    """Predicted and measured times, and which rows were fitted."""

    predicted: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    fitted: list[bool] = field(default_factory=list)

    def add(self, machines: _Machines, domains: int, sizes: Any, times_s: Any, fitted: Any) -> None:
        """Price *sizes* on *domains* of *machines* beside their measured times."""
        size = np.asarray(sizes, dtype=np.float64)
        found = group_s(_group(machines, domains), machines.operation, size, machines.algorithm)
        self.predicted += found.tolist()
        self.measured += np.asarray(times_s, dtype=np.float64).tolist()
        self.fitted += np.broadcast_to(np.asarray(fitted, dtype=bool), size.shape).tolist()


def between_nodes(data: Path) -> list[Result]:
    """Compute N2 between nodes."""
    began, rows = time.process_time(), _Rows()
    _simai(data, rows)
    _published(data, rows)
    seconds = time.process_time() - began
    held = ~np.array(rows.fitted)
    predicted, measured = np.array(rows.predicted), np.array(rows.measured)
    return [rate(NODES, split, predicted[m], measured[m], seconds) for split, m in _splits(held)]


def _splits(held: NDArray[np.bool_]) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    for split, mask in (("held-out", held), ("in-sample", ~held)):
        if mask.any():
            yield split, mask


def _group(machines: _Machines, domains: int) -> Group:
    accelerator = load_card(Accelerator, "topologies/accelerators", machines.accelerator)
    curves = efficiency_of(accelerator).collectives["nccl"]
    inside = Inside(machines.members, accelerator.link_bandwidth, curves)
    network = Outside(domains, machines.adapters_bytes_per_s, load_transport(machines.transport))
    return Group(inside, (network,) if domains > 1 else ())


_EIGHT: Final = 8 * 50e9
_SIMAI: Final = MappingProxyType(
    {
        "nic": _Machines("h100-sxm", 8, _EIGHT, "roce", "all_gather", "ring"),
        "nvlink": _Machines("h100-sxm", 8, _EIGHT, "infiniband", "all_gather", "ring"),
        "ata": _Machines("h100-sxm", 8, _EIGHT, "roce", "all_to_all"),
    }
)


def _simai(data: Path, rows: _Rows) -> None:
    """Add SimAI's tables: fractions of nominal bandwidth by nodes and size."""
    frame = pd.read_csv(data_file(data, "network/network_simai_ratio.csv"))
    nodes = frame.column.str.extract(r"^(\d+) ?Node", expand=False).astype(float)
    frame = frame.assign(nodes=nodes)[nodes >= 2]
    for keys, part in frame.groupby(["table", "nodes"]):
        name, number = cast("tuple[str, int]", keys)[0], int(cast("tuple[str, float]", keys)[1])
        if name not in _SIMAI:
            continue
        size, ratio = part.bytes.to_numpy(np.float64), part.ratio.to_numpy(np.float64)
        machines = _SIMAI[name]
        whole = wire_share(machines.operation, 8 * number) * size
        nominal = {
            "nic": whole / (8 * SIMAI_ADAPTER),
            "nvlink": whole / SIMAI_NVLINK,
            "ata": (1 - 1 / number) * size / SIMAI_ADAPTER,
        }
        rows.add(machines, number, size, nominal[name] / ratio, number in SIMAI_FITTED[name])


_RACKS: Final = MappingProxyType(
    {
        1: _Machines("gb200", RACK, RACK * 50e9, "infiniband"),
        2: _Machines("gb200", RACK, RACK * 50e9, "infiniband"),
        20: _Machines("gb200", RACK, RACK * 50e9 * SPINE_SHARE, "infiniband", algorithm="ring"),
    }
)
_HOSTS: Final = (
    ("H100 HGX 8 nodes", _Machines("h100-sxm", 8, _EIGHT, "infiniband")),
    ("AWS p4d", _Machines("a100-40gb-sxm", 8, 50e9, "efa")),
    ("A100 SXM4-40G 3 nodes", _Machines("a100-40gb-sxm", 8, 100e9, "infiniband")),
    ("H100 8x400G", _Machines("h100-sxm", 8, _EIGHT, "infiniband")),
)
"""Machines by how the system's name in the table begins; the first that fits."""
_ODD: Final = ("reported as low", "p6-b300")
"""A run that was published as a problem, and one of a network of which nothing else is known."""
LARGE: Final = 2.0**33
"""The buffer behind a bandwidth that is published for 'large' ones."""


def _published(data: Path, rows: _Rows) -> None:
    """Add all-reduces of CoreWeave and of NCCL's issues; where only the bus bandwidth is given, its time."""
    frame = pd.read_csv(data_file(data, "network/network_published.csv"))
    frame = frame[frame.op.str.startswith("all_reduce") & (frame.nodes > 1)]
    frame = frame[~frame.system.str.contains("|".join(_ODD), regex=True)]
    for row in cast("Any", frame.itertuples()):
        rack = row.system.startswith("GB200 NVL72")
        racks = int(row.gpus) // RACK
        if rack and row.metric == "time_us" and racks in _RACKS:
            size, fitted = float(row.size_bytes), np.log2(float(row.size_bytes)) % 2 == 1 and racks != 2
            rows.add(_RACKS[racks], racks, [size], [float(row.value) * 1e-6], fitted)
        elif not rack and row.metric in ("busbw", "busbw peak", "expected busbw"):
            _add_host(row, rows)


def _add_host(row: Any, rows: _Rows) -> None:
    machines = next((found for name, found in _HOSTS if row.system.startswith(name)), None)
    if machines is None:
        return
    size = LARGE if row.size_bytes == "large" else float(row.size_bytes)
    nodes = int(row.nodes)
    time_s = wire_share("all_reduce", machines.members * nodes) * size / (float(row.value) * GIGABYTE)
    rows.add(machines, nodes, [size], [time_s], machines.transport == "efa" and nodes == 4)
