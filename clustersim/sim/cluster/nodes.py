"""What is free on the nodes of one pool, as columns. Knows who holds what, and no time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clustersim.errors import PolicyError
from clustersim.policies.cluster import Demand, Nodes
from clustersim.spec.jobs import NodeGroup

_WHOLE = 1000
_EPS = 1e-9


class PoolNodes:
    """The nodes of one pool; a share of an accelerator is counted in thousandths."""

    def __init__(self, groups: Sequence[tuple[int, NodeGroup]], has_shares: bool, draws: Iterator[float]):
        self.number = np.concatenate([first + np.arange(group.nodes) for first, group in groups])
        self.size = self._column([group.accelerators_per_node for _, group in groups], groups)
        self.largest = max(int(self.size.max()), 1)
        self.free = self.size.copy()
        self.up = np.ones(len(self.number), dtype=bool)
        names = list(dict.fromkeys(group.accelerator_kind for _, group in groups))
        self.kind = self._column([names.index(group.accelerator_kind) for _, group in groups], groups)
        self.kind_names = names
        self.rack = self._racks(groups)
        self.cpus_free = self._column([group.cpus or np.inf for _, group in groups], groups)
        self.memory_free = self._column([group.memory or np.inf for _, group in groups], groups)
        self.thousandths: np.ndarray | None = self._shares() if has_shares else None
        self.spanning = np.zeros(len(self.number), dtype=np.int64)
        self.free_up = int(self.free.sum())
        self.total_up = self.total = self.free_up
        self.changes: list[int] = []
        self.memory: dict[object, object] = {}
        self._draws = draws
        self.is_plain = len(names) == 1 and not has_shares and not np.isfinite(self.cpus_free).any()
        self.is_plain = self.is_plain and not np.isfinite(self.memory_free).any()
        """Whether free accelerators can be counted: one kind, whole ones, nothing else asked for."""

    @staticmethod
    def _column(values: Sequence[float], groups: Sequence[tuple[int, NodeGroup]]) -> np.ndarray:
        return np.repeat(np.asarray(values), [group.nodes for _, group in groups])

    @staticmethod
    def _racks(groups: Sequence[tuple[int, NodeGroup]]) -> np.ndarray:
        racks, first = [], 0
        for _, group in groups:
            racks.append(first + np.arange(group.nodes) // group.rack_nodes)
            first = int(racks[-1][-1]) + 1
        return np.concatenate(racks)

    def _shares(self) -> np.ndarray:
        exists = np.arange(max(int(self.size.max()), 1)) < self.size[:, None]
        return np.where(exists, _WHOLE, 0).astype(np.int64)

    @property
    def count(self) -> int:
        """Number of nodes."""
        return len(self.size)

    @property
    def left(self) -> np.ndarray:
        """What is left of each accelerator, one row a node; known only if a job asks for less than one."""
        if self.thousandths is None:
            return (np.arange(self.largest) < self.free[:, None]).astype(np.float64)
        left: np.ndarray = self.thousandths / _WHOLE
        return left

    @property
    def random(self) -> float:
        """A number in [0, 1), another each time it is read."""
        return next(self._draws)

    def traffic(self) -> np.ndarray:
        """Return for each node how many of its jobs also run on other nodes."""
        return self.spanning

    def usable(self, demand: Demand) -> np.ndarray:
        """Return how many accelerators *demand* could take of each node now."""
        if self.is_plain and self.total_up == self.total and not demand.kinds:
            return self.free
        if demand.share < 1.0 and self.thousandths is not None:
            usable = (self.thousandths >= round(demand.share * _WHOLE)).any(axis=1).astype(np.int64)
        else:
            usable = self.free if demand.accelerators else np.ones_like(self.free)
        usable = np.minimum(usable, self._by_host(demand))
        return np.where(self._allowed(demand), usable, 0)

    def free_for(self, demand: Demand) -> int:
        """Return how many accelerators *demand* could take of all nodes together."""
        if self.is_plain and not demand.kinds and demand.accelerators:
            return self.free_up
        return int(self.usable(demand).sum())

    def drained_for(self, demand: Demand) -> int:
        """Return the free accelerators on nodes that are drained and would suit *demand*."""
        if self.total_up == self.total:
            return 0
        return int(self.free[~self.up & self._of_kind(demand)].sum())

    def capacity(self, demand: Demand) -> int:
        """Return how many accelerators suit *demand*, taken or not, on nodes up or not."""
        return int(self.size[self._of_kind(demand)].sum())

    def _allowed(self, demand: Demand) -> np.ndarray:
        allowed: np.ndarray = self.up & self._of_kind(demand)
        return allowed

    def _of_kind(self, demand: Demand) -> np.ndarray:
        if not demand.kinds:
            return np.ones(self.count, dtype=bool)
        codes = [code for code, name in enumerate(self.kind_names) if name in demand.kinds]
        return np.isin(self.kind, codes)

    def _by_host(self, demand: Demand) -> np.ndarray:
        """Return for how many accelerators of *demand* the processors and memory of each node suffice."""
        parts = max(demand.accelerators, 1)
        most = np.full(self.count, float(parts))
        for asked, free in ((demand.cpus, self.cpus_free), (demand.memory_bytes, self.memory_free)):
            if asked:
                most = np.minimum(most, np.floor(free * parts / asked + _EPS))
        return np.where(np.isfinite(most), most, parts).astype(np.int64)

    def take(self, demand: Demand, nodes: Nodes, device: int | None = None) -> tuple[tuple[int, ...], ...]:
        """Give *nodes* to *demand*; return the accelerators taken of each, by number, where shares count.

        A share is of the accelerator *device*, by default of the fullest that has it.
        """
        self._check(demand, nodes)
        taken: tuple[tuple[int, ...], ...] = ()
        if self.thousandths is not None:
            taken = tuple(self._take_devices(self.thousandths[node], demand, n, device) for node, n in nodes)
        for node, n in nodes:
            self._move(demand, node, n, -1)
        if len(nodes) > 1:
            self.spanning[[node for node, _ in nodes]] += 1
        return taken

    def give_back(self, demand: Demand, nodes: Nodes, devices: tuple[tuple[int, ...], ...]) -> None:
        """Take *nodes* back from *demand*."""
        if self.thousandths is not None:
            for (node, _), chosen in zip(nodes, devices, strict=True):
                self.thousandths[node, list(chosen)] += round(demand.share * _WHOLE)
        for node, n in nodes:
            self._move(demand, node, n, 1)
        if len(nodes) > 1:
            self.spanning[[node for node, _ in nodes]] -= 1

    def drain(self, nodes: np.ndarray, is_up: bool) -> None:
        """Let *nodes* take jobs, or no longer."""
        self.up[nodes] = is_up
        self.free_up = int(self.free[self.up].sum())
        self.total_up = int(self.size[self.up].sum())

    def _check(self, demand: Demand, nodes: Nodes) -> None:
        usable, given, seen = self.usable(demand), 0, set()
        for node, n in nodes:
            if not 0 <= node < len(usable) or n < 0 or usable[node] < (n or 1):
                raise PolicyError(f"placement: takes {n} of node {node}, which does not have them to give")
            given += n
            seen.add(node)
        if not nodes or len(seen) != len(nodes) or given != demand.accelerators:
            raise PolicyError(f"placement: {nodes} is no place for {demand.accelerators} accelerators")

    @staticmethod
    def _take_devices(row: np.ndarray, demand: Demand, n: int, device: int | None) -> tuple[int, ...]:
        """Take accelerators of a node, whole ones that are free or a share of the fullest that has it."""
        if n == 0:
            return ()
        asked = round(demand.share * _WHOLE)
        if asked == _WHOLE:
            chosen = np.flatnonzero(row == _WHOLE)[:n]
        elif device is not None and 0 <= device < len(row) and row[device] >= asked:
            chosen = np.array([device])
        else:
            chosen = np.argmin(np.where(row >= asked, row, 2 * _WHOLE), keepdims=True)
        row[chosen] -= asked
        return tuple(int(device) for device in chosen)

    def _move(self, demand: Demand, node: int, n: int, sign: int) -> None:
        """Count what is free on *node* after *n* accelerators are given back (1) or taken (-1)."""
        if self.thousandths is None:
            change = sign * n
        else:
            change = int(np.count_nonzero(self.thousandths[node] == _WHOLE)) - int(self.free[node])
        self.free[node] += change
        if self.up[node]:
            self.free_up += change
        if self.is_plain:
            return
        self.changes.append(node)
        part = n / demand.accelerators if demand.accelerators else 1.0
        if demand.cpus:
            self.cpus_free[node] += sign * part * demand.cpus
        if demand.memory_bytes:
            self.memory_free[node] += sign * part * demand.memory_bytes
