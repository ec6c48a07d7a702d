"""Who waits, in lanes of jobs that are alike, and why. A job comes and goes in O(log n).

Jobs of one demand and one virtual cluster are interchangeable to quotas and placements, so if the first
of a lane cannot start, none of the lane can, and the reason is the same for all of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from operator import add, sub
from typing import Final

from clustersim.errors import PolicyError
from clustersim.policies.cluster import Demand
from clustersim.sim.cluster.job import Job

REASONS: Final = ("quota", "drained", "busy", "gang", "fragmentation", "order", "round")
"""Why a job waits, the first that applies: its virtual cluster's quota is used up; free accelerators are on
drained nodes; none is free; fewer are free than it needs at once; enough are free, but not where it could
use them; it would fit, but others come first; it would fit, but the round has not ended."""
QUOTA, DRAINED, BUSY, GANG, FRAGMENTATION, ORDER, ROUND = range(len(REASONS))

_NOTHING: Final = (0.0,) * len(REASONS)
_Entry = tuple[float, int, Job]


@dataclass(slots=True, eq=False)
class Lane:
    """The waiting jobs of one demand and one virtual cluster, by rank."""

    demand: Demand
    queue: str
    entries: list[_Entry] = field(default_factory=list)
    begin: int = 0
    reason: int = BUSY
    since_s: float = 0.0
    totals_s: list[float] = field(default_factory=lambda: [0.0] * len(REASONS))
    blocked: int = -1
    """The pool's count of releases when its first job was last found not to fit."""

    def __len__(self) -> int:
        return len(self.entries) - self.begin

    @property
    def first(self) -> _Entry:
        """The entry of the lowest rank; only of a lane that is not empty."""
        return self.entries[self.begin]

    def charge(self, now_s: float) -> None:
        """Count the time since the last call under the present reason."""
        if now_s > self.since_s:
            self.totals_s[self.reason] += now_s - self.since_s
            self.since_s = now_s

    def add(self, job: Job, now_s: float) -> None:
        """Let *job* wait."""
        self.charge(now_s)
        insort(self.entries, (job.rank, job.index, job), lo=self.begin)
        job.waited = list(map(sub, job.waited or _NOTHING, self.totals_s))
        job.lane = self

    def remove(self, job: Job, now_s: float) -> None:
        """Let *job* go."""
        self.charge(now_s)
        place = bisect_left(self.entries, (job.rank, job.index), lo=self.begin)
        if place == self.begin:
            self.begin += 1
            if 2 * self.begin > len(self.entries):
                del self.entries[: self.begin]
                self.begin = 0
        else:
            del self.entries[place]
        job.waited = list(map(add, job.waited, self.totals_s))
        job.lane = None

    def __iter__(self) -> Iterator[_Entry]:
        return iter(self.entries[self.begin :])


class JobQueue:
    """The waiting jobs of one pool; a ``QueueView``."""

    def __init__(self, fits: Callable[[Job], bool]):
        self._lanes: dict[tuple[str, Demand], Lane] = {}
        self._fits = fits
        self.lanes: list[Lane] = []
        """The lanes in which somebody waits."""

    def add(self, job: Job, now_s: float) -> None:
        """Let *job* wait."""
        key = (job.queue, job.demand)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(job.demand, job.queue, since_s=now_s)
        if not len(lane):
            self.lanes.append(lane)
        lane.add(job, now_s)

    def remove(self, job: Job, now_s: float) -> None:
        """Let *job*, which waits, go."""
        lane = job.lane
        if lane is None:
            raise PolicyError(f"job {job.name!r} does not wait")
        lane.remove(job, now_s)
        if not len(lane):
            self.lanes.remove(lane)

    def __len__(self) -> int:
        return sum(len(lane) for lane in self.lanes)

    def __iter__(self) -> Iterator[Job]:
        for _, _, job in list(merge(*self.lanes)):
            if job.lane is not None:
                yield job

    @property
    def first(self) -> Job | None:
        """The job of the lowest rank; None if nobody waits."""
        lanes = self.lanes
        if len(lanes) > 1:
            return min([lane.entries[lane.begin] for lane in lanes])[2]
        return lanes[0].first[2] if lanes else None

    def first_fitting(self) -> Job | None:
        """Return the job of the lowest rank that could start now; None if there is none."""
        for _, _, job in sorted(lane.first for lane in self.lanes):
            if self._fits(job):
                return job
        return None
