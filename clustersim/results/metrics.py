"""The headline numbers of a run, from its tables as numpy columns. No pandas, no clock, no I/O.

What each key means stands in ``clustersim.record.summary.METRICS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from clustersim.record import intertoken, latency
from clustersim.record.summary import METRICS
from clustersim.record.tables import TABLES

Columns = Mapping[str, np.ndarray]
_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def summary(tables: Mapping[str, Columns], context: Mapping[str, Any]) -> dict[str, float]:
    """Return every metric of a run, NaN where there is nothing to measure.

    Args:
        tables: The result tables by name, each a mapping from column to array; a missing table is empty.
        context: The run's manifest, or as much of it as is known: ``replicas``, ``accelerators``,
            ``kv_blocks_total`` (per replica) and ``slo`` (latency of a request to its limit).
    """
    full = {name: tables[name] if name in tables else _empty(name) for name in TABLES}
    known = _work(full, context) | _waits(full) | _service(full, context) | _replicas(full, context)
    return {metric.name: float(known.get(metric.name, math.nan)) for metric in METRICS}


def _empty(name: str) -> Columns:
    kinds = {
        column.name: object if column.dtype == "string" else column.dtype for column in TABLES[name].columns
    }
    return {column: np.empty(0, dtype) for column, dtype in kinds.items()}


def span_s(requests: Columns) -> float:
    """Return the time from the first arrival to the last finish; NaN if nothing finished."""
    done = latency.finished(requests)
    return float(requests["finish_s"][done].max() - requests["arrival_s"].min()) if done.any() else math.nan


def _work(tables: Mapping[str, Columns], context: Mapping[str, Any]) -> dict[str, float]:
    requests, done = tables["requests"], latency.finished(tables["requests"])
    duration_s, arrivals_s = span_s(requests), requests["arrival_s"]
    output = float(requests["output_tokens"][done].sum())
    spread_s = float(np.ptp(arrivals_s)) if len(arrivals_s) else 0.0
    return {
        "requests": len(done),
        "finished": int(done.sum()),
        "rejected": int((~done).sum()),
        "duration_s": duration_s,
        "request_rate_per_s": _ratio(len(arrivals_s) - 1, spread_s),
        "throughput_requests_per_s": _ratio(float(done.sum()), duration_s),
        "throughput_tokens_per_s": _ratio(output, duration_s),
        "throughput_tokens_per_s_per_accelerator": _ratio(
            output, duration_s * float(context.get("accelerators") or math.nan)
        ),
        "total_tokens_per_s": _ratio(output + float(requests["prompt_tokens"][done].sum()), duration_s),
    }


def _waits(tables: Mapping[str, Columns]) -> dict[str, float]:
    requests, result = tables["requests"], {}
    done = latency.finished(requests)
    for column, values in latency.latencies(requests).items():
        kept = values[done & ~np.isnan(values)]
        name = column.removesuffix("_s")
        result[f"{name}_mean_s"] = float(kept.mean()) if len(kept) else math.nan
        found = np.quantile(kept, list(_SHARES.values())) if len(kept) else [math.nan] * len(_SHARES)
        result |= {f"{name}_{share}_s": float(x) for share, x in zip(_SHARES, found, strict=True)}
    between = intertoken.samples(tables["iterations"], tables["token_gaps"])
    exact = intertoken.quantiles(between, list(_SHARES.values()))
    result |= {f"itl_{share}_s": float(x) for share, x in zip(_SHARES, exact, strict=True)}
    return result | {"itl_mean_s": between.mean_s}


def _service(tables: Mapping[str, Columns], context: Mapping[str, Any]) -> dict[str, float]:
    requests, slo = tables["requests"], latency.limits(context.get("slo"))
    preemptions = float(requests["preemptions"].sum())
    if not slo:
        return {"preemptions": preemptions}
    met = float(latency.meets(requests, slo).sum())
    return {
        "preemptions": preemptions,
        "goodput_requests_per_s": _ratio(met, span_s(requests)),
        "slo_attainment_share": _ratio(met, len(requests["status"])),
    }


def _replicas(tables: Mapping[str, Columns], context: Mapping[str, Any]) -> dict[str, float]:
    requests, steps, power = tables["requests"], tables["iterations"], tables["power"]
    output = float(requests["output_tokens"][latency.finished(requests)].sum())
    metered_s = _metered_s(power)
    energy_j = float(np.dot(power["power_w"], power["duration_s"])) if len(power["power_w"]) else math.nan
    blocks = steps["kv_blocks"].max() if len(steps["kv_blocks"]) else math.nan
    replicas = float(context.get("replicas") or math.nan)
    return {
        "batch_mean_sequences": _ratio(
            float(np.dot(steps["decode_sequences"].astype(np.float64), steps["count"])),
            float(steps["count"].sum()),
        ),
        "busy_share": _ratio(float(steps["duration_s"].sum()), span_s(requests) * replicas),
        "kv_peak_share": _ratio(float(blocks), float(context.get("kv_blocks_total") or math.nan)),
        "energy_j": energy_j,
        "energy_j_per_token": _ratio(energy_j, output),
        "mean_power_w": _ratio(energy_j, metered_s),
    }


def _metered_s(power: Columns) -> float:
    ends_s = power["start_s"] + power["duration_s"]
    return float(ends_s.max() - power["start_s"].min()) if len(ends_s) else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
