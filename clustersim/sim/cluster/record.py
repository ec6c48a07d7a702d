"""What happened to the jobs, kept as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from clustersim.sim.cluster.job import Job
from clustersim.sim.cluster.queueing import REASONS

_RUNNING, _DONE, _TIMED_OUT, _CANCELLED = range(4)
_WORDS: Final = {_TIMED_OUT: "timed out", _CANCELLED: "withdrawn"}
_LEAST_S: Final = 1e-9
Columns = dict[str, np.ndarray[Any, Any]]


class Record:
    """Collects ends and stretches of running."""

    def __init__(self, jobs: int):
        self._state = [_RUNNING] * jobs
        self._finish_s = [0.0] * jobs
        self._nodes = [0] * jobs
        self._spans: list[list[float]] = [[], [], [], [], []]

    def start(self, job: Job) -> None:
        """Note where *job* starts."""
        self._nodes[job.index] = len(job.nodes)

    def stop(self, job: Job) -> None:
        """Note a stretch of running of *job*, node by node."""
        jobs, nodes, starts_s, ends_s, taken = self._spans
        for node, accelerators in job.nodes:
            jobs.append(job.index)
            nodes.append(node)
            starts_s.append(job.start_s)
            ends_s.append(job.clock.now_s)
            taken.append(accelerators)

    def finish(self, job: Job, is_done: bool) -> None:
        """Note the end of *job*: its work is done, or its limit reached."""
        self._state[job.index] = _DONE if is_done else _TIMED_OUT
        self._finish_s[job.index] = job.clock.now_s

    def cancel(self, job: Job) -> None:
        """Note that *job* was withdrawn."""
        self._state[job.index] = _CANCELLED
        self._finish_s[job.index] = job.clock.now_s

    def is_over(self, job: Job) -> bool:
        """Return whether *job* has ended."""
        return self._state[job.index] != _RUNNING

    def jobs(self, jobs: Sequence[Job], status: np.ndarray) -> Columns:
        """Return the result table of jobs; *status* is what the trace says of those that ended."""
        return {
            "job": np.arange(len(jobs)),
            "name": np.array([job.name for job in jobs], dtype=object),
            "queue": np.array([job.queue for job in jobs], dtype=object),
            "user": np.array([job.user for job in jobs], dtype=object),
            "accelerators": np.array([job.accelerators for job in jobs], dtype=np.int32),
            "submit_s": np.array([job.submit_s for job in jobs], dtype=float),
            "start_s": np.array([job.first_start_s for job in jobs], dtype=float),
            "finish_s": np.array(self._finish_s, dtype=float),
            "wait_s": np.array([job.wait_s for job in jobs], dtype=float),
            "run_s": np.array([job.past_ran_s for job in jobs], dtype=float),
            "service_s": np.array([job.past_service_s for job in jobs], dtype=float),
            "preemptions": np.array([job.preemptions for job in jobs], dtype=np.int32),
            "nodes": np.array(self._nodes, dtype=np.int32),
            "status": np.array(
                [_WORDS.get(s, told) for s, told in zip(self._state, status, strict=True)], dtype=object
            ),
        }

    def waits(self, jobs: Sequence[Job]) -> Columns:
        """Return the result table of waits: jobs and reasons with the seconds, where there are any."""
        index = np.array([job.index for job in jobs if job.wait_s > 0], dtype=np.int64)
        waited = np.array([job.waited for job in jobs if job.wait_s > 0], dtype=float)
        row, reason = np.nonzero(waited.reshape(len(index), len(REASONS)) > _LEAST_S)
        return {
            "job": index[row],
            "reason": np.array(REASONS, dtype=object)[reason],
            "duration_s": waited[row, reason] if len(index) else np.zeros(0),
        }

    def spans(self, numbers: Sequence[np.ndarray]) -> Columns:
        """Return the result table of stretches; *numbers* has the nodes of each job's pool in the cluster."""
        job, node, start_s, end_s, taken = self._spans
        found = [numbers[j][n] for j, n in zip(job, node, strict=True)]  # type: ignore[call-overload]
        return {
            "job": np.array(job, dtype=np.int64),
            "node": np.array(found, dtype=np.int32),
            "start_s": np.array(start_s),
            "duration_s": np.array(end_s) - np.array(start_s),
            "accelerators": np.array(taken, dtype=np.int32),
        }
