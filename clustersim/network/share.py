"""Activities on shared links: who gets how much, and who ends next. Knows times only as it is told them.

Rates are weighted max-min fair (``network.maxmin``). What joins or leaves is gathered until the next
``update``, so that simultaneous events are solved together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.network import state
from clustersim.network.maxmin import drain, update
from clustersim.network.pool import Pool
from clustersim.network.state import MOST_CLASSES, NEVER, new_state
from clustersim.network.topology import Array


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms an activity shares links."""

    weight: float = 1.0
    """Its part where it competes, relative to the others'."""
    cap_bytes_per_s: float = np.inf
    priority: int = 0
    """Its class: 0 is served before 1."""


EQUAL: Final = Terms()


class FlowSet:
    """Activities that share links fairly.

    Times are given, never read from a clock, and must not decrease.
    """

    def __init__(self, capacity_bytes_per_s: Array, *, metered: bool = False, tolerance: float = 0.0):
        """Start with idle links.

        *metered* keeps the load of every link at all times, for tables of links. A *tolerance* leaves those
        alone whose level would change by a smaller share.
        """
        capacity = np.array(capacity_bytes_per_s, dtype=np.float64)
        if capacity.ndim != 1 or not (capacity >= 0.0).all():
            raise ClusterSimError("the capacities of links must be numbers that are not negative")
        self.links, self.metered, self.tolerance = len(capacity), metered, tolerance
        self._pool = Pool(64, 512)
        self._s = new_state(capacity, 64, 512, metered)
        self._counts = np.zeros(3, np.int64)
        self._joining: dict[int, None] = {}
        self._leaving: dict[int, None] = {}
        self._altered: dict[int, None] = {}
        self.now_s = 0.0
        self.next_s = NEVER
        """When the next activity ends, as of the last update; 1e300 if none will."""

    def __len__(self) -> int:
        """Activities under way, those that join at the next update included."""
        return len(self._pool.spans) - len(self._leaving)

    def add(self, links: Any, weights: Any, size_bytes: float, terms: Terms = EQUAL) -> int:
        """Let an activity of *size_bytes* join at the next update, and return its number.

        It puts *weights* bytes on each of *links* for each of its bytes. Numbers are used again once their
        activity has ended. Raises ClusterSimError for what cannot be carried.
        """
        links, load = np.asarray(links, dtype=np.int64), np.asarray(weights, dtype=np.float64)
        capped = np.isfinite(terms.cap_bytes_per_s)
        self._check(links, load, size_bytes, terms)
        number, first = self._take(len(links) + int(capped))
        s, end = self._s, first + len(links)
        s.entry[first:end, state.LINK] = links
        s.coef[first:end] = load * terms.weight
        if capped:
            own = self.links + number
            s.link[own, state.CAPACITY] = terms.cap_bytes_per_s
            s.entry[end, state.LINK], s.coef[end] = own, terms.weight
        s.entry[first : end + capped, state.OWNER] = number
        s.whole[number, : state.CLASS + 1] = first, end + capped, terms.priority
        s.real[number, state.WEIGHT] = terms.weight
        s.real[number, [state.LEFT, state.SIZE]] = size_bytes
        s.scalar[state.CLASSES] = max(s.scalar[state.CLASSES], terms.priority + 1)
        self._joining[number] = None
        return number

    def add_paths(
        self, paths: Array, size_bytes: Any, terms: Terms = EQUAL, caps_bytes_per_s: Any = None
    ) -> Array:
        """Let a flow join for each row of *paths* (-1 where there is no link); return their numbers.

        All have the same *terms*, but each may have a cap of its own.
        """
        sizes = np.broadcast_to(np.asarray(size_bytes, dtype=np.float64), len(paths))
        if not (paths >= 0).any(axis=1).all() or not (sizes > 0).all() or paths.max(initial=0) >= self.links:
            raise ClusterSimError("every flow needs a path over links that there are, and a positive size")
        taken = [self._pool.take(paths.shape[1] + 1) for _ in range(len(paths))]
        self._fit()
        numbers, firsts = np.array(taken, dtype=np.int64).reshape(-1, 2).T
        caps = np.broadcast_to(
            terms.cap_bytes_per_s if caps_bytes_per_s is None else caps_bytes_per_s, len(paths)
        )
        own = np.where(np.isfinite(caps), self.links + numbers, -1)
        self._s.link[own[own >= 0], state.CAPACITY] = caps[own >= 0]
        self._fill(numbers, firsts, np.column_stack([paths, own]), terms)
        self._s.real[numbers, state.LEFT] = self._s.real[numbers, state.SIZE] = sizes
        self._joining.update(dict.fromkeys(numbers.tolist()))
        return numbers

    def _fill(self, numbers: Array, firsts: Array, paths: Array, terms: Terms) -> None:
        """Write the entries of flows, each link of which carries all of their bytes."""
        s, used = self._s, paths >= 0
        at = (firsts[:, None] + np.cumsum(used, axis=1) - 1)[used]
        s.entry[at, state.LINK] = paths[used]
        s.entry[at, state.OWNER] = np.broadcast_to(numbers[:, None], paths.shape)[used]
        s.coef[at] = terms.weight
        s.whole[numbers, state.FIRST] = firsts
        s.whole[numbers, state.LAST] = firsts + used.sum(axis=1)
        s.whole[numbers, state.CLASS] = terms.priority
        s.real[numbers, state.WEIGHT] = terms.weight
        s.scalar[state.CLASSES] = max(s.scalar[state.CLASSES], terms.priority + 1)

    def remove(self, number: int) -> None:
        """Let an activity leave at the next update, whether done or not."""
        if self._joining.pop(number, self) is not self:
            return
        self._known(number)
        self._s.real[number, state.DUE] = NEVER
        self._leaving[number] = None

    def set_capacity(self, link: int, bytes_per_s: float) -> None:
        """Change what a link carries, from the next update on."""
        if not 0 <= link < self.links or not bytes_per_s >= 0.0:
            raise ClusterSimError(f"link {link} cannot carry {bytes_per_s:g} bytes per second")
        self._s.link[link, state.CAPACITY] = bytes_per_s
        self._altered[link] = None

    def update(self, now_s: float) -> list[int]:
        """Go on to *now_s*, with whoever joins and leaves there; return who ended by then, in order."""
        s, counts = self._s, self._counts
        counts[:] = len(self._joining), len(self._leaving), len(self._altered)
        s.fresh[: counts[0]] = list(self._joining)
        s.gone[: counts[1]] = list(self._leaving)
        s.altered[: counts[2]] = list(self._altered)
        self.next_s = update(s, now_s, counts, self.tolerance)
        self.now_s = now_s
        ended: list[int] = s.gone[: s.scalar[state.GONE]].tolist()
        for number in (*ended, *self._leaving):
            self._pool.give(number)
        self._joining.clear()
        self._leaving.clear()
        self._altered.clear()
        return sorted(ended)

    def drain(self) -> dict[int, float]:
        """Go on until everyone has ended who can; return when each did."""
        finish_s = np.full(self._pool.activities, NEVER)
        ended = dict.fromkeys(self.update(self.now_s), self.now_s)
        self.now_s = drain(self._s, self.next_s, self._counts * 0, finish_s, self.tolerance)
        done = np.flatnonzero(finish_s < NEVER)
        for number in done.tolist():
            self._pool.give(number)
        self.next_s = NEVER
        return ended | dict(zip(done.tolist(), finish_s[done].tolist(), strict=True))

    def rate_bytes_per_s(self, number: int) -> float:
        """Return the present rate of an activity."""
        self._known(number)
        return float(self._s.real[number, state.LEVEL] * self._s.real[number, state.WEIGHT])

    def left_bytes(self, number: int, now_s: float) -> float:
        """Return what an activity still has to move at *now_s*, at its present rate."""
        self._known(number)
        left, since_s = self._s.real[number, [state.LEFT, state.SINCE]].tolist()
        return float(max(0.0, left - self.rate_bytes_per_s(number) * max(0.0, now_s - since_s)))

    @property
    def solved(self) -> tuple[int, int]:
        """How often the solver ran, and on how many activities in all."""
        return int(self._s.scalar[state.PASSES]), int(self._s.scalar[state.SOLVED])

    def changed_links(self) -> Array:
        """Return the links whose load the last update changed, where loads are metered."""
        found = self._s.changed[: self._s.scalar[state.CHANGED]]
        return np.array(found[found < self.links])

    def moved_bytes(self, now_s: float) -> Array:
        """Return what every link has carried: until *now_s* where metered, else by those that have ended."""
        links = self._s.link[: self.links]
        return np.asarray(links[:, state.MOVED] + links[:, state.LOAD] * (now_s - links[:, state.SEEN]))

    def used_s(self, now_s: float) -> Array:
        """Return for every link the seconds until *now_s* times the activities on it, where metered."""
        links, users = self._s.link[: self.links], self._s.mark[: self.links, state.USERS]
        return np.asarray(links[:, state.USED] + users * (now_s - links[:, state.SEEN]))

    def load_bytes_per_s(self) -> Array:
        """Return what every link carries at present, where metered."""
        return np.array(self._s.link[: self.links, state.LOAD])

    def _known(self, number: int) -> None:
        if number not in self._pool.spans or number in self._leaving:
            raise ClusterSimError(f"activity {number} is not under way")

    def _check(self, links: Array, load: Array, size_bytes: float, terms: Terms) -> None:
        if links.shape != load.shape or not (load > 0.0).all() or not np.isfinite(load).all():
            raise ClusterSimError("every link of an activity needs one positive number of bytes per byte")
        if len(links) and not (links.min() >= 0 and links.max() < self.links):
            raise ClusterSimError(f"an activity names a link that is not among 0 to {self.links - 1}")
        if len(np.unique(links)) < len(links):
            raise ClusterSimError("an activity names a link twice; add its weights up")
        if not (0.0 < size_bytes < np.inf and 0.0 < terms.weight < np.inf and terms.cap_bytes_per_s > 0.0):
            raise ClusterSimError("size, weight and cap must be positive, and size and weight finite")
        if not 0 <= terms.priority < MOST_CLASSES:
            raise ClusterSimError(f"priority {terms.priority} is not allowed: 0 to {MOST_CLASSES - 1}")
        if not len(links) and not np.isfinite(terms.cap_bytes_per_s):
            raise ClusterSimError("an activity without links or a cap would take no time")

    def _take(self, count: int) -> tuple[int, int]:
        taken = self._pool.take(count)
        self._fit()
        return taken

    def _fit(self) -> None:
        """Make the arrays as large as the pool."""
        old, pool = self._s, self._pool
        if pool.activities == len(old.real) and pool.entries == len(old.entry):
            return
        new = new_state(old.link[: self.links, state.CAPACITY], pool.activities, pool.entries, self.metered)
        for before, after in zip(old, new, strict=True):
            after[: len(before)] = before
        self._s = new
