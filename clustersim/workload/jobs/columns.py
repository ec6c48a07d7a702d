"""Jobs as columns: what a trace reader or a generator gives and the cluster runs. Plain data, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from clustersim.errors import ClusterSimError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Jobs:
    """A workload of jobs, one entry a job, in order of submission; equal times keep the trace's order."""

    submit_s: Array
    duration_s: Array
    """How long the job runs as requested: the truth, which schedulers are not shown."""
    accelerators: Array
    """Whole accelerators, all or none; 0 asks for processors only."""
    name: Array
    queue: Array
    """Virtual cluster, tenant or partition."""
    user: Array
    estimate_s: Array
    """What the user or a predictor says; infinity where nobody does."""
    limit_s: Array
    deadline_s: Array
    priority: Array
    min_accelerators: Array
    max_accelerators: Array
    kinds: Array
    """Tuples of the accelerators a job can run on; empty: any."""
    share: Array
    """Of one accelerator, for jobs that ask for less than one; else 1."""
    cpus: Array
    memory_bytes: Array
    cancel_s: Array
    """When a job that still waits is withdrawn; infinity for never."""
    status: Array
    """How the job ended in the trace: finished, failed or cancelled."""
    profile: Array
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows of the trace that are not here, by the reason."""

    def __len__(self) -> int:
        return len(self.submit_s)

    def take(self, rows: Array, dropped: str = "") -> Jobs:
        """Return the jobs of *rows* (numbers or a mask); the others are noted under *dropped*."""
        picked = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "dropped"}
        lost = len(self) - len(picked["submit_s"])
        notes = dict(self.dropped)
        if dropped and lost:
            notes[dropped] = notes.get(dropped, 0) + lost
        return Jobs(**picked, dropped=notes)

    def of_queue(self, queue: str) -> Jobs:
        """Return the jobs of one virtual cluster."""
        return self.take(self.queue == queue)

    def between(self, start_s: float, end_s: float) -> Jobs:
        """Return the jobs submitted from *start_s* to before *end_s*; the clock is not moved."""
        return self.take((self.submit_s >= start_s) & (self.submit_s < end_s))

    def longer(self, by_s: float) -> Jobs:
        """Return the jobs with *by_s* added to each duration."""
        return replace(self, duration_s=self.duration_s + by_s)

    def in_one_queue(self) -> Jobs:
        """Return the jobs with their virtual clusters forgotten: one shared pool."""
        return replace(self, queue=np.full(len(self), "", dtype=object))

    def summary(self) -> dict[str, float]:
        """Return what the workload amounts to, and under ``dropped: reason`` what is not in it."""
        n = len(self)
        facts = {
            "jobs": n,
            "span_s": float(self.submit_s[-1] - self.submit_s[0]) if n else 0.0,
            "accelerator_s": float((self.duration_s * np.maximum(self.accelerators, 0) * self.share).sum()),
            "largest": int(self.accelerators.max()) if n else 0,
            "queues": len(set(self.queue.tolist())),
        }
        return facts | {f"dropped: {reason}": count for reason, count in self.dropped.items()}


def make_jobs(dropped: Mapping[str, int] | None = None, **columns: Any) -> Jobs:
    """Return jobs in order of submission; absent columns get what promises and demands nothing.

    Needs submit_s, duration_s and accelerators. Raises ClusterSimError for unknown columns, and for values
    that no job can have.

    >>> make_jobs(submit_s=[5, 0], duration_s=[1, 2], accelerators=[1, 8]).duration_s.tolist()
    [2.0, 1.0]
    """
    unknown = set(columns) - {f.name for f in fields(Jobs)}
    if unknown or not {"submit_s", "duration_s", "accelerators"} <= set(columns):
        raise ClusterSimError(
            "jobs need submit_s, duration_s and accelerators, and know no column "
            f"{', '.join(sorted(unknown)) or 'of another name'}"
        )
    n = len(columns["submit_s"])
    known = _defaults(n, np.asarray(columns["accelerators"], dtype=np.int64)) | {
        name: _column(name, values, n) for name, values in columns.items()
    }
    _check(known)
    order = np.argsort(known["submit_s"], kind="stable")
    return Jobs(**{name: values[order] for name, values in known.items()}, dropped=dict(dropped or {}))


_WHOLE = ("accelerators", "min_accelerators", "max_accelerators")
_TEXT = ("name", "queue", "user", "status", "profile", "kinds")


def _defaults(n: int, accelerators: Array) -> dict[str, Array]:
    infinity, nothing = np.full(n, np.inf), np.full(n, "", dtype=object)
    kinds = np.empty(n, dtype=object)
    kinds[:] = [()] * n
    return {
        "name": np.array([str(i) for i in range(n)], dtype=object),
        "queue": nothing,
        "user": nothing,
        "estimate_s": infinity,
        "limit_s": infinity,
        "deadline_s": infinity,
        "priority": np.zeros(n),
        "min_accelerators": accelerators,
        "max_accelerators": accelerators,
        "kinds": kinds,
        "share": np.ones(n),
        "cpus": np.zeros(n),
        "memory_bytes": np.zeros(n),
        "cancel_s": infinity,
        "status": np.full(n, "finished", dtype=object),
        "profile": nothing,
    }


def _column(name: str, values: Any, n: int) -> Array:
    if name == "kinds":
        found = np.empty(n, dtype=object)
        found[:] = [tuple(kinds) for kinds in values]
        return found
    dtype: Any = object if name in _TEXT else np.int64 if name in _WHOLE else np.float64
    column = np.asarray(values, dtype=dtype)
    if column.shape != (n,):
        raise ClusterSimError(f"jobs: the column {name} has {column.shape} entries where submit_s has {n}")
    return column


def _check(known: Mapping[str, Array]) -> None:
    rules = {
        "submit_s": (np.isfinite(known["submit_s"]), "is finite"),
        "duration_s": (
            np.isfinite(known["duration_s"]) & (known["duration_s"] >= 0),
            "is finite, at least 0",
        ),
        "accelerators": (known["accelerators"] >= 0, "is at least 0"),
        "share": ((known["share"] > 0) & (known["share"] <= 1), "lies above 0 and at most at 1"),
        "min_accelerators": (
            (known["min_accelerators"] <= known["accelerators"])
            & (known["accelerators"] <= known["max_accelerators"]),
            "is at most accelerators, and these at most max_accelerators",
        ),
    }
    for name, (fine, rule) in rules.items():
        if not np.all(fine):
            row = int(np.flatnonzero(~np.asarray(fine))[0])
            raise ClusterSimError(
                f"jobs: {name} of job {known['name'][row]!r} is {known[name][row]}; it {rule}"
            )
