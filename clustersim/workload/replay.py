"""From a trace's raw columns to requests: sorted, spread, cut out, put on the clock, rescaled.

The steps run in the order in which they stand in ``replay``; each says in a note what it changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clustersim.errors import Problem, SpecError, choices
from clustersim.spec.workload import Arrivals, Trace
from clustersim.workload.arrivals import arrival_times
from clustersim.workload.purposes import Purposes
from clustersim.workload.readers.raw import Raw, read_raw
from clustersim.workload.readers.servegen import generate
from clustersim.workload.requests import Requests


def replay(trace: Trace, purposes: Purposes) -> Requests:
    """Return the requests of a trace as its description wants them."""
    raw = generate(trace, purposes) if _is_servegen(trace) else read_raw(trace)
    raw = _spread(_sorted(raw), trace, purposes)
    raw = _timed(_window(_of_tenants(raw, trace), trace), trace, purposes)
    return _scaled(raw, trace)


def _is_servegen(trace: Trace) -> bool:
    return trace.format == "servegen" or (trace.format is None and trace.file.is_dir())


def _sorted(raw: Raw) -> Raw:
    """Put rows in order of time; rows of one stamp keep the order of the file."""
    if raw.arrival_s is None:
        return raw
    late = int((np.diff(raw.arrival_s) < 0).sum())
    if not late:
        return raw
    note = f"{late:,} of {len(raw):,} rows came before their predecessor; all were sorted by time"
    return raw.take(np.argsort(raw.arrival_s, kind="stable"), note)


def _spread(raw: Raw, trace: Trace, purposes: Purposes) -> Raw:
    """Spread arrivals that share a rounded stamp evenly at random over the time that it stands for."""
    times_s = raw.arrival_s
    if times_s is None or len(raw) < 2:
        return raw
    gaps_s = np.diff(times_s)
    shared, step_s = float((gaps_s == 0).mean()), _step(gaps_s)
    width_s = trace.spread if trace.spread is not None else step_s if raw.quantised and shared > 0.5 else 0.0
    told = f"{shared:.0%} of arrivals share a stamp with the one before (stamps step by about {step_s:g} s)"
    if not width_s:
        note = f"{told}: they arrive in bulk; spread: {step_s:g} s would spread them"
        return replace(raw, notes=(*raw.notes, note)) if shared > 0.2 else raw
    moved_s = np.sort(times_s + width_s * purposes.rng("spread").random(len(raw)))
    note = f"{told}; each was moved by up to {width_s:g} s, at random"
    return replace(raw, arrival_s=moved_s, notes=(*raw.notes, note))


def _step(gaps_s: np.ndarray) -> float:
    """Return the usual step between stamps that differ, to the millisecond."""
    steps = gaps_s[gaps_s > 0]
    return float(np.round(np.median(steps), 3)) if len(steps) else 0.0


def _of_tenants(raw: Raw, trace: Trace) -> Raw:
    if not trace.tenants:
        return raw
    if raw.tenant is None:
        raise _wrong(trace, "tenants", "the file names no tenants")
    known = sorted(set(raw.tenant.tolist()))
    for tenant in trace.tenants:
        if tenant not in known:
            raise _wrong(trace, "tenants", f"no request is of tenant {tenant!r}; {choices(tenant, known)}")
    mine = np.isin(raw.tenant.astype(str), trace.tenants)
    of = f"{int(mine.sum()):,} of {len(raw):,} requests are of {', '.join(trace.tenants)}"
    return raw.take(mine, f"{of}; the rest was left out")


def _window(raw: Raw, trace: Trace) -> Raw:
    """Keep the wanted stretch of the trace, and of it the first requests."""
    if raw.arrival_s is None:
        if trace.start or trace.duration is not None:
            raise _wrong(trace, "start", "a file without times has no start or duration; use requests")
        return raw if trace.requests is None else raw.take(np.arange(min(trace.requests, len(raw))))
    end_s = np.inf if trace.duration is None else trace.start + trace.duration
    inside = (raw.arrival_s >= trace.start) & (raw.arrival_s < end_s)
    if not inside.any():
        last_s = raw.arrival_s[-1]
        raise _wrong(
            trace,
            "start",
            f"no request arrives from {trace.start:g} s to {end_s:g} s; the last at {last_s:g} s",
        )
    rows = np.flatnonzero(inside)[: trace.requests]
    if len(rows) == len(raw):
        return raw
    return raw.take(
        rows, f"{len(rows):,} of {len(raw):,} requests are in the wanted stretch; the rest was left out"
    )


def _timed(raw: Raw, trace: Trace, purposes: Purposes) -> Raw:
    """Put the requests on the run's clock: the trace's own times, or drawn ones, or none (closed loop)."""
    if trace.concurrency is not None:
        return replace(raw, arrival_s=np.zeros(len(raw)))
    arrivals = Arrivals(rate=trace.poisson_rate) if trace.poisson_rate is not None else trace.arrivals
    if arrivals is not None:
        drawn_s = arrival_times(arrivals, purposes, len(raw), None)
        return replace(
            raw, arrival_s=drawn_s, notes=(*raw.notes, "arrival times were drawn, not those of the file")
        )
    if raw.arrival_s is None:
        raise _wrong(trace, "file", "has no arrival times; give poisson_rate, arrivals or concurrency")
    return _stretched(raw, raw.arrival_s, trace)


def _stretched(raw: Raw, times_s: np.ndarray, trace: Trace) -> Raw:
    notes, first_s = list(raw.notes), float(times_s[0])
    if first_s > 0:
        notes.append(f"the first request of the stretch came at {first_s:g} s and now arrives at 0")
    times_s, speed = times_s - first_s, trace.speed or 1.0
    if trace.rate is not None and not _is_servegen(trace):
        if not times_s[-1] > 0:
            raise _wrong(trace, "rate", "all requests share one time, so no rate fits; use poisson_rate")
        own_rate = (len(times_s) - 1) / times_s[-1]
        speed = trace.rate / own_rate
        notes.append(f"played {speed:.4g} times as fast, from {own_rate:.4g} to {trace.rate:.4g} requests/s")
    return replace(raw, arrival_s=times_s / speed, notes=tuple(notes))


def _scaled(raw: Raw, trace: Trace) -> Requests:
    prompt, output, notes = raw.prompt_tokens, raw.output_tokens, raw.notes
    blocks = raw.blocks
    if trace.scale_prompt != 1.0:
        prompt = np.maximum(np.rint(prompt * trace.scale_prompt), 1).astype(np.int64)
        if blocks is not None:
            blocks, notes = (
                None,
                (*notes, "scaled prompts no longer match their prefix blocks, which were dropped"),
            )
    if trace.scale_output != 1.0:
        output = np.maximum(np.rint(output * trace.scale_output), 1).astype(np.int64)
    tenant = None if raw.tenant is None else [str(name) for name in raw.tenant]
    arrival_s = np.zeros(len(raw)) if raw.arrival_s is None else raw.arrival_s
    return Requests(arrival_s, prompt, output, output, tenant, blocks, notes)


def _wrong(trace: Trace, field: str, message: str) -> SpecError:
    return SpecError([Problem(f"workload.{field}", message, str(trace.file))])
