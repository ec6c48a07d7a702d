"""One job while it is in the cluster: what is known of it, and what it has received so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clustersim.policies.cluster import Demand, Nodes

if TYPE_CHECKING:
    from clustersim.sim.cluster.queueing import Lane


@dataclass(slots=True, eq=False)
class Clock:
    """The time, as all parts of a cluster read it."""

    now_s: float = 0.0


@dataclass(slots=True, eq=False)
class Job:
    """A job; what it has received grows between events and is computed when it is read."""

    index: int
    name: str
    submit_s: float
    demand: Demand
    clock: Clock
    estimate_s: float = 0.0
    min_accelerators: int = 1
    max_accelerators: int = 1
    limit_s: float = 0.0
    deadline_s: float = 0.0
    priority: float = 0.0
    user: str = ""
    queue: str = ""
    profile: str = ""
    rank: float = 0.0
    held: int = 0
    nodes: Nodes = ()
    devices: tuple[tuple[int, ...], ...] = ()
    speed: float = 0.0
    start_s: float = 0.0
    waiting_since_s: float = 0.0
    preemptions: int = 0
    version: int = 0
    """Counts starts and stops, so that the end of an earlier run is known to be stale."""
    since_s: float = 0.0
    """Until when the totals below have been brought up to date."""
    past_ran_s: float = 0.0
    past_service_s: float = 0.0
    past_done_s: float = 0.0
    past_debt_s: float = 0.0
    wait_s: float = 0.0
    first_start_s: float = -1.0
    lane: Lane | None = None
    waited: list[float] = field(default_factory=list)
    """Seconds by the reason of the wait, in the order of ``REASONS``."""

    @property
    def accelerators(self) -> int:
        """How many accelerators it asks for."""
        return self.demand.accelerators

    @property
    def _elapsed_s(self) -> float:
        return self.clock.now_s - self.since_s if self.speed else 0.0

    @property
    def ran_s(self) -> float:
        """How long it has run in all."""
        return self.past_ran_s + (self.clock.now_s - self.since_s if self.speed else 0.0)

    @property
    def service_s(self) -> float:
        """Accelerator-seconds it has received."""
        if not self.speed:
            return self.past_service_s
        return self.past_service_s + (self.clock.now_s - self.since_s) * self.held * self.demand.share

    @property
    def debt_s(self) -> float:
        """How long it will still compute nothing, because it started again."""
        return max(0.0, self.past_debt_s - self._elapsed_s)

    @property
    def done_s(self) -> float:
        """What it has done, in seconds of running as requested."""
        elapsed_s = self._elapsed_s
        return self.past_done_s + max(0.0, elapsed_s - self.past_debt_s) * self.speed

    @property
    def remaining_s(self) -> float:
        """The estimate less what is done, with what restarts still cost."""
        return max(0.0, self.estimate_s - self.done_s) + self.debt_s

    def settle(self) -> None:
        """Bring the totals up to date; called before anything about its running changes."""
        now_s = self.clock.now_s
        elapsed_s = now_s - self.since_s if self.speed else 0.0
        self.past_ran_s += elapsed_s
        self.past_service_s += elapsed_s * self.held * self.demand.share
        self.past_done_s += max(0.0, elapsed_s - self.past_debt_s) * self.speed
        self.past_debt_s = max(0.0, self.past_debt_s - elapsed_s)
        self.since_s = now_s
