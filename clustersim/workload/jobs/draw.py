"""The jobs that a description stands for: drawn, or read and cut to size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clustersim.errors import ClusterSimError
from clustersim.rng import Streams
from clustersim.spec.joblist import JobTrace, SyntheticJobs
from clustersim.workload.jobs.columns import Array, Jobs, make_jobs
from clustersim.workload.jobs.reading import read_jobs
from clustersim.workload.jobs.special import ReadOptions

_DAY_S = 86_400.0


def draw_jobs(jobs: SyntheticJobs | JobTrace, streams: Streams) -> Jobs:
    """Return the jobs of *jobs*; the same seed gives the same, whatever the schedulers.

    Raises SpecError or ClusterSimError for a trace that cannot be read.
    """
    return _drawn(jobs, streams) if isinstance(jobs, SyntheticJobs) else _read(jobs)


def _read(trace: JobTrace) -> Jobs:
    jobs = read_jobs(trace.file, trace.format, ReadOptions(attempts=trace.attempts))
    if trace.queues:
        known = set(jobs.queue.tolist())
        if unknown := sorted(set(trace.queues) - known):
            raise ClusterSimError(
                f"{trace.file}: no virtual cluster {unknown[0]!r}; there are {', '.join(sorted(known))}"
            )
        jobs = jobs.take(np.isin(jobs.queue, trace.queues), "of other virtual clusters")
    end_s = float("inf") if trace.end is None else trace.end
    inside = (jobs.submit_s >= trace.start) & (jobs.submit_s < end_s)
    jobs = jobs.take(inside, "outside the time chosen")
    if trace.jobs is not None:
        jobs = jobs.take(np.arange(min(trace.jobs, len(jobs))), "more than were asked for")
    jobs = jobs.in_one_queue() if trace.one_pool else jobs
    return replace(jobs, submit_s=jobs.submit_s / trace.speed)


def _drawn(spec: SyntheticJobs, streams: Streams) -> Jobs:
    n = spec.jobs
    weight = np.array([size.weight for size in spec.sizes])
    size = streams.get("jobs", "sizes").choice(len(weight), n, p=weight / weight.sum())
    durations_s = _durations_s(spec, size, streams)
    accelerators = np.array([s.accelerators for s in spec.sizes])[size]
    elastic = (streams.get("jobs", "elastic").random(n) < spec.elastic) & (accelerators > 1)
    failed = streams.get("jobs", "status").random(n) < spec.failed
    misses = np.exp(streams.get("jobs", "estimates").normal(0.0, spec.estimate_error or 0.0, n))
    return make_jobs(
        submit_s=_arrivals_s(spec, streams),
        duration_s=durations_s,
        accelerators=accelerators,
        share=np.array([s.share for s in spec.sizes])[size],
        queue=_named(spec.queues, n, streams),
        user=_users(spec.users, n, streams),
        estimate_s=durations_s * misses,
        min_accelerators=np.where(elastic, np.maximum(accelerators // 2, 1), accelerators),
        max_accelerators=np.where(elastic, accelerators * 2, accelerators),
        status=np.where(failed, "failed", "finished").astype(object),
    )


def _durations_s(spec: SyntheticJobs, size: Array, streams: Streams) -> Array:
    median = np.array([s.median for s in spec.sizes])[size]
    sigma = np.array([s.sigma for s in spec.sizes])[size]
    drawn = median * np.exp(sigma * streams.get("jobs", "durations").normal(size=len(size)))
    return np.asarray(np.clip(drawn, 1.0, spec.longest))


def _arrivals_s(spec: SyntheticJobs, streams: Streams) -> Array:
    """Return gamma arrivals, densest at noon of each day; the clock begins at midnight."""
    draws = streams.get("jobs", "arrivals")
    shape = 1.0 / spec.cv**2
    even_s = np.cumsum(draws.gamma(shape, 1.0 / (shape * spec.rate), spec.jobs))
    if not spec.daily:
        return even_s
    days = np.arange(int(even_s[-1] // _DAY_S) + 2)
    grid_s = (days[:, None] * _DAY_S + np.linspace(0, _DAY_S, 288, endpoint=False)).ravel()
    turn = 2 * np.pi * grid_s / _DAY_S
    passed_s = grid_s - spec.daily * _DAY_S / (2 * np.pi) * np.sin(turn)
    found: Array = np.interp(even_s, passed_s, grid_s)
    return found


def _named(shares: dict[str, float], n: int, streams: Streams) -> Array:
    if not shares:
        return np.full(n, "", dtype=object)
    names, weight = np.array(list(shares), dtype=object), np.array(list(shares.values()))
    drawn: Array = names[streams.get("jobs", "queues").choice(len(names), n, p=weight / weight.sum())]
    return drawn


def _users(count: int, n: int, streams: Streams) -> Array:
    weight = 1.0 / np.arange(1, count + 1)
    drawn = streams.get("jobs", "users").choice(count, n, p=weight / weight.sum())
    return np.array([f"user {k}" for k in drawn.tolist()], dtype=object)
