"""The published schemas of job traces: which column holds what, in which unit, and what is left out.

All durations are those of the trace. A virtual cluster is a queue of its own. Numeric stamps keep the
zero of the file, dates are counted from the first submission. Jobs that failed or were cancelled while
they ran stay: they hold half of the accelerators' time in some traces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from clustersim.workload.jobs.columns import Jobs, make_jobs
from clustersim.workload.jobs.text import TextTable

_MS, _US = 1e-3, 1e-6
_MIB = 2.0**20
_GB = 1e9
ENDS: Final[Mapping[str, str]] = {
    "completed": "finished", "pass": "finished", "terminated": "finished", "succeeded": "finished",
    "finished": "finished", "1": "finished", "failed": "failed", "timeout": "failed", "node_fail": "failed",
    "out_of_memory": "failed", "oom": "failed", "boot_fail": "failed", "0": "failed", "killed": "cancelled",
    "canceled": "cancelled", "cancelled": "cancelled", "preempted": "cancelled", "5": "cancelled",
    "deadline": "failed",
}  # fmt: skip
"""How jobs end, by the traces' words for it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A schema: the columns by which it is known, and how its rows become jobs."""

    name: str
    known_by: frozenset[str]
    read: Callable[[TextTable], dict[str, Any]]


def jobs_from(table: TextTable, columns: Mapping[str, Any]) -> Jobs:
    """Return the kept rows of *table* as jobs; raise SpecError if it holds mistakes."""
    submit_s = np.asarray(columns["submit_s"], dtype=float)
    duration_s = np.asarray(columns["duration_s"], dtype=float)
    accelerators = np.asarray(columns["accelerators"], dtype=float)
    table.drop(~np.isfinite(submit_s), "no time of submission")
    table.drop(~np.isfinite(duration_s), "no duration: it never ran or had not ended")
    table.drop(~np.isfinite(accelerators), "no number of accelerators")
    whole = np.nan_to_num(accelerators)
    table.check(np.nan_to_num(duration_s) >= 0, "", "the duration is negative")
    table.check((whole >= 0) & (whole == np.floor(whole)), "", "the accelerators are no whole number")
    table.stop_if_wrong()
    kept = {name: np.asarray(values, dtype=_type(values))[table.kept] for name, values in columns.items()}
    kept["accelerators"] = kept["accelerators"].astype(np.int64)
    return make_jobs(table.dropped, **kept)


def _type(values: Any) -> Any:
    return None if isinstance(values, np.ndarray) else object


def status_of(table: TextTable, name: str) -> np.ndarray:
    """Return how each job ended, in our words; unknown words count as finished."""
    words = [str(word).split(" ")[0].lower() for word in table.text(name)]
    return np.array([ENDS.get(word, "finished") for word in words], dtype=object)


def from_first(table: TextTable, name: str) -> np.ndarray:
    """Return dated stamps in seconds after the earliest of them."""
    stamps_s = table.times_s(name, empty=np.nan)
    first_s = np.nanmin(stamps_s) if np.isfinite(stamps_s).any() else 0.0
    return np.asarray(stamps_s - (first_s if first_s > _YEAR_S else 0.0))


_YEAR_S = 365 * 86_400.0


def _own(table: TextTable) -> dict[str, Any]:
    """Read our own schema: the names of our columns, kinds separated by |."""
    columns: dict[str, Any] = {
        "submit_s": from_first(table, "submit_s"),
        "duration_s": table.numbers("duration_s"),
        "accelerators": table.numbers("accelerators"),
    }
    for name in (
        "estimate_s",
        "limit_s",
        "deadline_s",
        "cancel_s",
        "priority",
        "share",
        "cpus",
        "memory_bytes",
    ):
        if name in table:
            endless = name.endswith("_s")
            columns[name] = table.numbers(name, empty=np.inf if endless else 1.0 if name == "share" else 0.0)
    for name in ("min_accelerators", "max_accelerators"):
        if name in table:
            given = table.numbers(name, empty=np.nan)
            columns[name] = np.where(np.isfinite(given), given, columns["accelerators"])
    for name in ("name", "queue", "user", "status", "profile"):
        if name in table:
            columns[name] = table.text(name)
    if "kinds" in table:
        columns["kinds"] = _kinds(table.text("kinds"))
    return columns


def _kinds(words: np.ndarray) -> np.ndarray:
    found = np.empty(len(words), dtype=object)
    found[:] = [tuple(word.split("|")) if word else () for word in words]
    return found


def _philly(table: TextTable) -> dict[str, Any]:
    """Read the filtered Philly copy of Pollux and Sia: not sorted, no users, no ends."""
    return {
        "submit_s": from_first(table, "timestamp"),
        "duration_s": np.maximum(table.numbers("duration"), 1.0),
        "accelerators": table.numbers("num_gpus"),
        "queue": table.text("cluster"),
    }


def _helios(table: TextTable) -> dict[str, Any]:
    """Read a cluster log of HeliosData (SC 2021)."""
    gpus = table.numbers("gpu_num")
    table.drop(gpus == 0, "asks for no accelerator")
    return {
        "submit_s": from_first(table, "submit_time"),
        "duration_s": table.numbers("duration"),
        "accelerators": gpus,
        "name": table.text("job_id"),
        "queue": table.text("vc"),
        "user": table.text("user"),
        "status": status_of(table, "state"),
    }


def _canonical(table: TextTable) -> dict[str, Any]:
    """Read fleetsim's canonical CSV: stamps in microseconds, tenants are virtual clusters."""
    return {
        "submit_s": table.times_s("submit_time", _US),
        "duration_s": table.numbers("duration_s"),
        "accelerators": table.numbers("num_chips"),
        "name": table.text("job_id"),
        "queue": table.text("tenant"),
        "user": table.text("user"),
        "estimate_s": table.numbers("walltime_limit_s", empty=np.inf),
        "kinds": _kinds(table.text("chip_type")),
        "status": status_of(table, "final_status"),
    }


def _acme(table: TextTable) -> dict[str, Any]:
    """Read a job log of AcmeTrace (NSDI 2024)."""
    gpus = table.numbers("gpu_num", empty=0.0)
    table.drop(gpus == 0, "asks for no accelerator")
    return {
        "submit_s": from_first(table, "submit_time"),
        "duration_s": table.numbers("duration", empty=np.nan),
        "accelerators": gpus,
        "name": table.text("job_id"),
        "user": table.text("user"),
        "status": status_of(table, "state"),
        "profile": table.text("type"),
    }


def _pai(table: TextTable) -> dict[str, Any]:
    """Read the task table of Alibaba PAI 2020: hundredths of accelerators, one gang a task.

    The table has no time of submission; the start stands for it, as in the authors' simulator.
    """
    instances = table.numbers("inst_num", empty=1.0)
    asked = table.numbers("plan_gpu", empty=0.0) / 100
    table.drop(asked == 0, "asks for no accelerator")
    start_s, end_s = table.numbers("start_time", empty=np.nan), table.numbers("end_time", empty=np.nan)
    table.drop((instances > 1) & (asked < 1), "several instances that share accelerators")
    table.drop((asked > 1) & (asked != np.floor(asked)), "more than one accelerator, and not a whole number")
    is_part = asked < 1
    return {
        "submit_s": start_s,
        "duration_s": np.where((start_s > 0) & (end_s >= start_s), end_s - start_s, np.nan),
        "accelerators": np.where(is_part, 1.0, asked * instances),
        "share": np.where(is_part & (asked > 0), asked, 1.0),
        "name": table.text("job_name"),
        "cpus": table.numbers("plan_cpu", empty=0.0) / 100 * instances,
        "memory_bytes": table.numbers("plan_mem", empty=0.0, factor=_GB) * instances,
        "kinds": _kinds(np.array([w if w != "MISC" else "" for w in table.text("gpu_type")], dtype=object)),
        "status": status_of(table, "status"),
    }


def _openb(table: TextTable) -> dict[str, Any]:
    """Read a list of pods of Alibaba's openb 2023: thousandths of accelerators, kinds by |."""
    gpus, milli = table.numbers("num_gpu"), table.numbers("gpu_milli", empty=1000.0)
    created_s, deleted_s = table.numbers("creation_time"), table.numbers("deletion_time", empty=np.nan)
    began_s = table.numbers("scheduled_time", empty=np.nan)
    table.drop(~np.isfinite(began_s), "never scheduled in the trace")
    return {
        "submit_s": created_s,
        "duration_s": deleted_s - began_s,
        "accelerators": gpus,
        "share": np.where((gpus == 1) & (milli > 0) & (milli < 1000), milli / 1000, 1.0),
        "name": table.text("name"),
        "cpus": table.numbers("cpu_milli", empty=0.0, factor=_MS),
        "memory_bytes": table.numbers("memory_mib", empty=0.0, factor=_MIB),
        "kinds": _kinds(table.text("gpu_spec")),
        "queue": table.text("qos"),
        "status": status_of(table, "pod_phase"),
    }


def _muri(table: TextTable) -> dict[str, Any]:
    """Read a trace of Muri (SIGCOMM 2022): milliseconds."""
    return {
        "submit_s": table.times_s("submit_time", _MS),
        "duration_s": table.numbers("duration", factor=_MS),
        "accelerators": table.numbers("num_gpu"),
        "name": table.text("job_id"),
        "priority": table.numbers("priority", empty=0.0),
        "profile": table.text("model_name"),
    }


def _tiresias(table: TextTable) -> dict[str, Any]:
    """Read a trace of Tiresias (NSDI 2019): seconds."""
    return {
        "submit_s": table.times_s("submit_time"),
        "duration_s": table.numbers("duration"),
        "accelerators": table.numbers("num_gpu"),
        "name": table.text("job_id"),
        "profile": table.text("model_name"),
    }


def _layout(name: str, read: Callable[[TextTable], dict[str, Any]], *known_by: str) -> Layout:
    return Layout(name, frozenset(known_by), read)


LAYOUTS: Final = (
    _layout("jobs", _own, "submit_s", "duration_s", "accelerators"),
    _layout("philly", _philly, "timestamp", "duration", "num_gpus", "cluster"),
    _layout("helios", _helios, "job_id", "vc", "gpu_num", "submit_time", "duration"),
    _layout("fleetsim", _canonical, "tenant", "submit_time", "num_chips", "duration_s"),
    _layout("acme", _acme, "job_id", "gpu_num", "submit_time", "duration", "type"),
    _layout("pai-2020", _pai, "job_name", "inst_num", "plan_gpu", "start_time", "end_time"),
    _layout("openb-2023", _openb, "name", "num_gpu", "gpu_milli", "creation_time", "deletion_time"),
    _layout("muri", _muri, "job_id", "num_gpu", "submit_time", "iteration_time", "resource_time_0"),
    _layout("tiresias", _tiresias, "job_id", "num_gpu", "submit_time", "model_name", "duration", "interval"),
)
"""Files with a header and commas; the first whose columns are all there is taken."""
