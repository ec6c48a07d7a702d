"""What a scheduler of jobs and a placement are shown, and what they may decide. No clock, no I/O.

A scheduler sees estimates, attained service and predicted speeds, never a true duration. If a run grants
an oracle, the estimate *is* the duration, and the results say so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import numpy as np

from clustersim.policies.base import Policy

Nodes: TypeAlias = tuple[tuple[int, int], ...]
"""Where a job runs: pairs of a node and how many of its accelerators."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job asks of the nodes; jobs of one demand in one queue are alike to a placement."""

    accelerators: int
    kinds: tuple[str, ...] = ()
    """Accelerators it can run on; empty: any."""
    share: float = 1.0
    """Of one accelerator; below 1, the job asks for a part of a single one."""
    cpus: float = 0.0
    """Processor cores of the whole job."""
    memory_bytes: float = 0.0
    """Host memory of the whole job."""


class JobView(Protocol):
    """A job as a policy sees it. Its true duration is hidden."""

    @property
    def index(self) -> int:
        """Number of the job, in order of submission."""

    @property
    def name(self) -> str:
        """Its name in the trace."""

    @property
    def submit_s(self) -> float:
        """When it was submitted."""

    @property
    def demand(self) -> Demand:
        """What it asks of the nodes."""

    @property
    def accelerators(self) -> int:
        """How many accelerators it asks for, all or none."""

    @property
    def min_accelerators(self) -> int:
        """The fewest it can run on."""

    @property
    def max_accelerators(self) -> int:
        """The most it can make use of."""

    @property
    def estimate_s(self) -> float:
        """How long it is thought to run as requested, in all; infinity if nobody knows."""

    @property
    def limit_s(self) -> float:
        """Its maximum run time; infinity if there is none."""

    @property
    def deadline_s(self) -> float:
        """When it should have finished; infinity if nobody said."""

    @property
    def priority(self) -> float:
        """More is more urgent."""

    @property
    def user(self) -> str:
        """Who submitted it."""

    @property
    def queue(self) -> str:
        """Its virtual cluster or tenant."""

    @property
    def profile(self) -> str:
        """The name under which its speeds on accelerators are known; empty if they are not."""

    @property
    def ran_s(self) -> float:
        """How long it has run in all."""

    @property
    def service_s(self) -> float:
        """Accelerator-seconds it has received."""

    @property
    def remaining_s(self) -> float:
        """The estimate less what is done, at the speed requested; infinity if nobody knows."""

    @property
    def held(self) -> int:
        """Accelerators it holds now; 0 while it waits."""

    @property
    def start_s(self) -> float:
        """When it last started or was resized; its submission if it never ran."""

    @property
    def waiting_since_s(self) -> float:
        """When it was submitted or last preempted."""

    @property
    def preemptions(self) -> int:
        """How often it was preempted."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a waiting job; where nothing is given, on what it asks for and where the placement says."""

    job: JobView
    accelerators: int | None = None
    nodes: Nodes | None = None
    kind: str | None = None
    """On which accelerators, where the job leaves it open."""


@dataclass(frozen=True, slots=True)
class Preempt:
    """Stop a running job; it keeps what it has done and waits again."""

    job: JobView


@dataclass(frozen=True, slots=True)
class Resize:
    """Restart a running job on another number of accelerators."""

    job: JobView
    accelerators: int


@dataclass(frozen=True, slots=True)
class Move:
    """Restart a running job on other nodes, those given or those the placement finds."""

    job: JobView
    nodes: Nodes | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """Ask again at a time, even if nothing happens until then."""

    at_s: float


Intent: TypeAlias = Start | Preempt | Resize | Move | Wake


class QueueView(Protocol):
    """The jobs of one pool that wait."""

    def __len__(self) -> int:
        """Return how many wait."""

    def __iter__(self) -> Iterator[JobView]:
        """Go through them by the scheduler's rank, the earlier submitted first of equals."""

    @property
    def first(self) -> JobView | None:
        """The one of the lowest rank; None if nobody waits."""

    def first_fitting(self) -> JobView | None:
        """Return the one of the lowest rank that could start now; None if there is none."""


class PoolView(Protocol):
    """What a scheduler sees of its pool of nodes."""

    @property
    def now_s(self) -> float:
        """The time."""

    @property
    def total(self) -> int:
        """Accelerators of all nodes that are up."""

    @property
    def free(self) -> int:
        """Accelerators that nobody holds, on nodes that are up."""

    @property
    def running(self) -> Sequence[JobView]:
        """Jobs that run, in the order in which they started."""

    @property
    def kinds(self) -> dict[str, int]:
        """Accelerators by their kind, in order of the nodes."""

    @property
    def nodes(self) -> NodesView:
        """The nodes."""

    @property
    def memory(self) -> dict[str, object]:
        """What the scheduler wants to remember; empty at first, one for each pool of each run."""

    def fits(self, job: JobView, accelerators: int | None = None, kind: str | None = None) -> bool:
        """Return whether *job* could start now, by its quota and by the placement."""

    def held(self, queue: str) -> int:
        """Return the accelerators that the jobs of *queue* hold."""

    def quota(self, queue: str) -> int:
        """Return the accelerators that are due to *queue*; all, where no quota is set."""

    def earliest_start_s(self, job: JobView) -> tuple[float, int]:
        """Return when *job* could start if running jobs end by their estimates, and what it leaves free."""

    def speed(self, job: JobView, accelerators: int, kind: str = "", nodes: int = 1) -> float:
        """Return the predicted speed of *job* on so many accelerators of *kind*, as requested = 1."""

    def throughput(self, job: JobView, accelerators: int, kind: str = "") -> float:
        """Return the iterations per second that *job* makes, where its profile has them; else its speed."""

    def mean_duration_s(self, user: str) -> float:
        """Return the mean duration of the finished jobs of *user*; of all, if none; infinity at first."""

    def services(self) -> Sequence[float]:
        """Return the accelerator-seconds of the finished jobs, in the order in which they ended."""


class NodesView(Protocol):
    """What a placement sees: columns with one entry a node, of one pool."""

    @property
    def count(self) -> int:
        """Number of nodes."""

    @property
    def size(self) -> np.ndarray:
        """Accelerators of each node."""

    @property
    def rack(self) -> np.ndarray:
        """The rack of each node."""

    @property
    def left(self) -> np.ndarray:
        """What is left of each accelerator, one row a node; known only if a job asks for less than one."""

    @property
    def kind(self) -> np.ndarray:
        """The kind of each node's accelerators, as a number of ``kind_names``."""

    @property
    def kind_names(self) -> list[str]:
        """The kinds of accelerators."""

    @property
    def changes(self) -> Sequence[int]:
        """The nodes on which something changed, in order, since the beginning."""

    @property
    def memory(self) -> dict[object, object]:
        """What the placement wants to remember; empty at first, one for each pool of each run."""

    @property
    def cpus_free(self) -> np.ndarray:
        """Processor cores that nobody holds."""

    @property
    def random(self) -> float:
        """A number in [0, 1), another each time it is read."""

    def usable(self, demand: Demand) -> np.ndarray:
        """Return how many accelerators *demand* could take of each node now."""

    def traffic(self) -> np.ndarray:
        """Return for each node how many of its jobs also run on other nodes."""


class JobScheduler(Policy):
    """Decides which jobs of a pool start, stop or change, whenever something has changed."""

    sort: ClassVar[str] = "job_scheduler"
    preempts: ClassVar[bool] = False
    """True: it may also stop, resize and move jobs, and is asked at every event."""
    needs_estimates: ClassVar[bool] = False
    """True: it goes by estimates of durations."""

    def rank(self, job: JobView) -> float:
        """Return the place of *job* among those that wait, lowest first; fixed when it begins to wait."""
        return 0.0

    @abstractmethod
    def pick(self, queue: QueueView, view: PoolView) -> Iterable[Intent]:
        """Yield what to do; each intent is carried out before the next one is asked for."""


class Placement(Policy):
    """Decides which nodes a job gets."""

    sort: ClassVar[str] = "placement"
    any_free: ClassVar[bool] = False
    """True: whatever is free will do, wherever it is, so that counting suffices to see whether a job fits."""

    def place(self, demand: Demand, nodes: NodesView) -> Nodes | None:
        """Return where *demand* goes, or None if it does not fit; by default by ``score``."""
        usable = nodes.usable(demand)
        found, left = [], max(demand.accelerators, 1)
        scores = [
            (score, n)
            for n in range(nodes.count)
            if (score := self._score(n, demand, nodes, usable)) is not None
        ]
        for _, node in sorted(scores):
            taken = min(int(usable[node]), left)
            found.append((node, taken if demand.accelerators else 0))
            left -= taken
            if not left:
                return tuple(found)
        return None

    def _score(self, node: int, demand: Demand, nodes: NodesView, usable: np.ndarray) -> float | None:
        return self.score(node, demand, nodes) if usable[node] > 0 else None

    def device(self, demand: Demand, node: int, nodes: NodesView) -> int | None:
        """Return of which accelerator of *node* a job gets its share; None: of the fullest that has it."""
        return None

    def score(self, node: int, demand: Demand, nodes: NodesView) -> float | None:
        """Return how well *node* suits *demand*, lowest best; None: not here."""
        return 0.0
