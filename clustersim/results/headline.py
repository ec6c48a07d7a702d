"""The answer first: what a run or a sweep found, in a few sentences. No I/O of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from clustersim.record import words
from clustersim.record.words import quantity, setting
from clustersim.results.run import Run
from clustersim.results.sweep import Sweep


def answer(results: Run | Sweep, target: float = 0.9) -> list[str]:
    """Say what was found, the most important first; *target* is the share that must meet the SLO."""
    return _of_run(results) if isinstance(results, Run) else _of_sweep(results, target)


def _of_run(run: Run) -> list[str]:
    found = run.summary
    if not found["finished"] > 0:
        return [f"None of {found['requests']:,.0f} requests finished."]
    said = [_served(run, found)]
    if run.slo:
        share = quantity("slo_attainment_share", found["slo_attainment_share"])
        said.append(f"{share} of the requests met the SLO ({words.limits(run.slo)}).")
    waits = [f"{quantity(f'{x}_p50_s', found[f'{x}_p50_s'])} in the median and "
             f"{quantity(f'{x}_p99_s', found[f'{x}_p99_s'])} at p99" for x in ("ttft", "tpot")]  # fmt: skip
    said.append(f"The first token took {waits[0]}, each further one {waits[1]}.")
    if found["rejected"] > 0:
        said.append(f"{found['rejected']:,.0f} requests were rejected or dropped.")
    return said


def _served(run: Run, found: pd.Series) -> str:
    replicas, accelerators = run.manifest.get("replicas"), run.manifest.get("accelerators")
    who = _many(replicas, "replica") if replicas else "The service"
    where = f" on {_many(accelerators, 'accelerator')}" if accelerators and accelerators != replicas else ""
    rate = quantity("throughput_requests_per_s", found["throughput_requests_per_s"])
    tokens = quantity("throughput_tokens_per_s", found["throughput_tokens_per_s"])
    return f"{who}{where} served {rate} and generated {tokens}."


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _of_sweep(sweep: Sweep, target: float) -> list[str]:
    if not len(sweep.done):
        return [f"None of {len(sweep.index)} runs finished."]
    said = [_winner(sweep), *_capacities(sweep, target)]
    if len(sweep.failed):
        said.append(f"{len(sweep.failed)} of {len(sweep.index)} runs failed.")
    return [sentence for sentence in said if sentence]


def _winner(sweep: Sweep) -> str:
    best = sweep.best_point()
    slo = sweep.best().slo
    value = quantity(sweep.goal, best[sweep.goal])
    chosen = words.settings({axis: best[axis] for axis in sweep.axes}) or "the only setting"
    if not slo:
        return f"Highest throughput: {value} with {chosen}."
    share = quantity("slo_attainment_share", best["slo_attainment_share"])
    return f"Highest goodput: {value} within the SLO ({words.limits(slo)}) with {chosen}; {share} met it."


def _capacities(sweep: Sweep, target: float) -> list[str]:
    table = sweep.capacity(target)
    if not len(table) or sweep.load is None:
        return []
    word = sweep.load.rpartition(".")[2]
    ranked = table.sort_values("capacity", ascending=False, na_position="last")
    parts = [f"{_setting_of(row)} {_up_to(row['capacity'])}" for row in ranked.head(6).to_dict("records")]
    more = f", and {len(ranked) - 6} more" if len(ranked) > 6 else ""
    return [f"With {target:.0%} of the requests within the SLO, the highest {word} tried that holds: "
            f"{'; '.join(parts)}{more}."]  # fmt: skip


def _setting_of(row: Mapping[Any, Any]) -> str:
    return words.settings({str(k): v for k, v in row.items() if k != "capacity"})


def _up_to(value: float) -> str:
    return "none" if math.isnan(value) else setting(float(value))
