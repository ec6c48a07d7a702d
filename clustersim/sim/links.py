"""The record of links: what each carried when, as exact steps or in bins of time, and by tier.

Loads are constant between events, so bytes are integrals and not samples: the bytes of a link's rows add up
to what it carried, whatever the bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from clustersim.network.share import FlowSet
from clustersim.network.topology import Array, Topology
from clustersim.record.tables import LINKS

Columns = dict[str, np.ndarray[Any, Any]]
_ROWS: Final = ("link", "start_s", "duration_s", "bytes", "flows")


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """How links are recorded: in bins of *bin_s*, or, without, a row for every stretch of equal load."""

    bin_s: float | None = None


@dataclass(slots=True)
class LinkLog:
    """Collects the rows of the table of links while a simulation runs."""

    flows: FlowSet
    record: LinkRecord
    rows: list[tuple[Array, ...]] = field(default_factory=list)
    edge_s: float = 0.0
    """In bins: where the open one began."""
    since_s: Array = field(default_factory=lambda: np.zeros(0))
    bytes_then: Array = field(default_factory=lambda: np.zeros(0))
    used_then: Array = field(default_factory=lambda: np.zeros(0))
    """What every link had carried, and for how many seconds times activities, by its last row."""

    def __post_init__(self) -> None:
        self.since_s, self.bytes_then, self.used_then = (np.zeros(self.flows.links) for _ in range(3))

    def before(self, now_s: float) -> None:
        """Close the bins that end by *now_s*; loads have not changed since the last update."""
        width_s = self.record.bin_s
        while width_s is not None and now_s >= self.edge_s + width_s:
            if not self.flows.load_bytes_per_s().any() and not self._open():
                self.edge_s += width_s * max(1.0, (now_s - self.edge_s) // width_s)
                continue
            self._close(np.arange(self.flows.links), self.edge_s + width_s)
            self.edge_s += width_s

    def after(self, now_s: float) -> None:
        """Write the stretches that ended now: those of the links whose load the update changed."""
        if self.record.bin_s is None:
            self._close(self.flows.changed_links(), now_s)

    def table(self, topology: Topology, now_s: float) -> Columns:
        """Return the table of links up to *now_s*, in order of time."""
        self.before(now_s)
        self._close(np.arange(self.flows.links), now_s)
        empty = tuple(np.zeros(0) for _ in _ROWS)
        rows = dict(zip(_ROWS, map(np.concatenate, zip(empty, *self.rows, strict=True)), strict=True))
        rows = {name: column[np.lexsort((rows["link"], rows["start_s"]))] for name, column in rows.items()}
        link = rows["link"].astype(np.int32)
        capacity = topology.capacity_bytes_per_s[link] * rows["duration_s"]
        names = {number: topology.resource_name(number) for number in np.unique(link).tolist()}
        columns = rows | {
            "link": link,
            "name": np.array([names[number] for number in link.tolist()], dtype=object),
            "tier": np.array(topology.tiers, dtype=object)[topology.tier[link]],
            "utilization_share": np.divide(
                rows["bytes"], capacity, out=np.zeros(len(link)), where=capacity > 0
            ),
        }
        return {name: columns[name] for name in LINKS.names}

    def _open(self) -> bool:
        """Tell whether anything was carried in the open bin."""
        return bool((self.flows.moved_bytes(self.edge_s) > self.bytes_then).any())

    def _close(self, links: Array, until_s: float) -> None:
        """Write a row for each of *links* that carried something since its last one."""
        start_s = np.full(len(links), self.edge_s) if self.record.bin_s else self.since_s[links]
        moved, used = self.flows.moved_bytes(until_s)[links], self.flows.used_s(until_s)[links]
        carried, seconds = moved - self.bytes_then[links], until_s - start_s
        kept = (carried > 0.0) & (seconds > 0.0)
        shares = (used - self.used_then[links])[kept] / seconds[kept]
        if kept.any():
            self.rows.append((links[kept], start_s[kept], seconds[kept], carried[kept], shares))
        self.since_s[links], self.bytes_then[links], self.used_then[links] = until_s, moved, used


def by_tier(topology: Topology, moved_bytes: Array, duration_s: float) -> Columns:
    """Return for each tier the bytes it carried, the mean utilisation of its links, and the busiest one's.

    *moved_bytes* is per link and bundle; a bundle counts as the links that it stands for.
    """
    count = len(topology.tiers)
    moved = np.bincount(topology.tier, weights=moved_bytes, minlength=count)
    links = slice(0, topology.links)
    capacity = np.bincount(
        topology.tier[links], weights=topology.capacity_bytes_per_s[links], minlength=count
    )
    busiest = np.zeros(count)
    share = np.divide(
        moved_bytes,
        topology.capacity_bytes_per_s * duration_s,
        out=np.zeros(topology.resources),
        where=topology.capacity_bytes_per_s * duration_s > 0,
    )
    np.maximum.at(busiest, topology.tier, share)
    mean = np.divide(moved, capacity * duration_s, out=np.zeros(count), where=capacity * duration_s > 0)
    return {
        "tier": np.array(topology.tiers, dtype=object),
        "bytes": moved,
        "utilization_share": mean,
        "busiest_share": busiest,
    }
