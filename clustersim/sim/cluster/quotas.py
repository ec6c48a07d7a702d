"""What is due to each virtual cluster of a pool, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping

from clustersim.policies.cluster import Demand


class Quotas:
    """Counts accelerators by virtual cluster; with *borrow*, what others leave idle may be used."""

    def __init__(self, due: Mapping[str, int], borrow: bool):
        self._due, self._borrow = dict(due), borrow
        self._held: dict[str, int] = {}

    @property
    def is_open(self) -> bool:
        """Whether nothing is ever refused."""
        return not self._due or self._borrow

    def held(self, queue: str) -> int:
        """Return the accelerators that *queue* holds."""
        return self._held.get(queue, 0)

    def due(self, queue: str, total: int) -> int:
        """Return the accelerators due to *queue*; *total*, where no quota is set."""
        return self._due.get(queue, total)

    def allows(self, queue: str, demand: Demand) -> bool:
        """Return whether *queue* may take *demand* as well."""
        if self.is_open or queue not in self._due:
            return True
        return self.held(queue) + demand.accelerators <= self._due[queue]

    def take(self, queue: str, accelerators: int) -> None:
        """Count *accelerators* as held by *queue*."""
        self._held[queue] = self._held.get(queue, 0) + accelerators

    def give_back(self, queue: str, accelerators: int) -> None:
        """Count *accelerators* of *queue* as free."""
        self._held[queue] -= accelerators
