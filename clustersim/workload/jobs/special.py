"""Job traces that are no plain tables: SWF, sacct, Philly's JSON, Gavel's and Pollux's."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from clustersim.errors import ClusterSimError, Problem, SpecError
from clustersim.workload.jobs.columns import Jobs, make_jobs
from clustersim.workload.jobs.layouts import from_first, jobs_from, status_of
from clustersim.workload.jobs.text import TextTable, open_text, read_table

_SWF: Final = (
    "job", "submit", "wait", "run", "used_procs", "used_cpu", "used_memory", "asked_procs", "asked_time",
    "asked_memory", "status", "user", "group", "executable", "queue", "partition", "before", "think",
)  # fmt: skip
_SPAN: Final = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_GRES: Final = re.compile(r"gres/gpu(?::([\w.-]+))?=(\d+)")
_GAVEL: Final = {
    10: (
        "job_type",
        "command",
        "folder",
        "steps_arg",
        "needs_data",
        "steps",
        "scale",
        "priority",
        "slo",
        "arrival",
    ),
    7: ("job_type", "command", "folder", "steps_arg", "steps", "arrival", "scale"),
}
_GAVEL_OLD: Final = ("job_type", "command", "steps_arg", "needs_data", "steps", "arrival", "scale")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What some traces leave open."""

    attempts: Literal["sum", "last"] = "sum"
    """Philly's JSON: whether a job's duration is that of all its attempts or of the last one."""
    throughputs: Path | None = None
    """Gavel: the file of measured steps per second."""
    reference: str = "v100"
    """Gavel: the accelerator on which durations are meant."""
    services_s: Mapping[str, float] = field(default_factory=dict)
    """Pollux and Sia, whose workloads hold no durations: accelerator-seconds by application."""


def read_swf(file: Path, options: ReadOptions) -> Jobs:
    """Read the standard workload format: a processor counts as an accelerator."""
    table = read_table(file, " ", ";", _SWF)
    asked, used = table.numbers("asked_procs"), table.numbers("used_procs")
    procs, run_s, limit_s = (
        np.where(asked > 0, asked, used),
        table.numbers("run"),
        table.numbers("asked_time"),
    )
    table.drop(procs <= 0, "asks for no processors")
    table.drop(run_s < 0, "never ran")
    return jobs_from(
        table,
        {
            "submit_s": table.numbers("submit"),
            "duration_s": np.maximum(run_s, 0),
            "accelerators": np.maximum(procs, 0),
            "estimate_s": np.where(limit_s > 0, limit_s, np.inf),
            "name": table.text("job"),
            "user": table.text("user"),
            "queue": np.where(table.text("queue") == "-1", "", table.text("queue")),
            "status": status_of(table, "status"),
        },
    )


def read_sacct(file: Path, options: ReadOptions) -> Jobs:
    """Read ``sacct --parsable2 --allocations``, with JobID, Submit, Start, End, AllocTRES or ReqTRES, State.

    A job of which TRES names no gpu is left out; a job still pending or running, too.
    """
    table = read_table(file, "|")
    tres = table.text("AllocTRES")
    tres = np.where(tres == "", table.text("ReqTRES"), tres)
    table.drop(np.array(["." in word for word in table.text("JobID")]), "a step of a job")
    found = [max(_GRES.findall(word), key=lambda m: (int(m[1]), m[0]), default=("", "0")) for word in tres]
    gpus = np.array([float(count) for _, count in found])
    table.drop(gpus == 0, "asks for no accelerator")
    start_s, end_s = (table.times_s(name, empty=np.nan) for name in ("Start", "End"))
    limit_s = np.array([_span_s(word) for word in table.text("Timelimit")])
    kinds = np.empty(len(table), dtype=object)
    kinds[:] = [(kind,) if kind else () for kind, _ in found]
    return jobs_from(
        table,
        {
            "submit_s": from_first(table, "Submit"),
            "duration_s": end_s - start_s,
            "accelerators": gpus,
            "name": table.text("JobID"),
            "user": table.text("User"),
            "queue": table.text("Partition"),
            "estimate_s": limit_s,
            "limit_s": limit_s,
            "kinds": kinds,
            "status": status_of(table, "State"),
        },
    )


def _span_s(word: str) -> float:
    """Return the seconds of ``days-hours:minutes:seconds``; infinity for none."""
    match = _SPAN.fullmatch(word)
    if match is None:
        return float("inf")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


def read_philly_json(file: Path, options: ReadOptions) -> Jobs:
    """Read Philly's ``cluster_job_log`` (ATC 2019): attempts are summed, or the last one counts."""
    try:
        log = json.loads(open_text(file))
    except json.JSONDecodeError as error:
        raise SpecError(
            [Problem("", f"is not JSON: {error.msg}", str(file), error.lineno, error.colno)]
        ) from None
    rows, dropped = list[dict[str, Any]](), dict[str, int]()
    for entry in log:
        row = _philly_job(entry, options.attempts)
        if isinstance(row, str):
            dropped[row] = dropped.get(row, 0) + 1
        else:
            rows.append(row)
    if not rows:
        raise ClusterSimError(f"{file}: holds no jobs that ran")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    first_s = min(columns["submit_s"])
    columns["submit_s"] = [at_s - first_s for at_s in columns["submit_s"]]
    return make_jobs(dropped, **columns)


def _philly_job(entry: Mapping[str, Any], which: str) -> dict[str, Any] | str:
    """Return the columns of one job, or why it is left out."""
    attempts = [
        a for a in entry.get("attempts", []) if _dated(a.get("start_time")) and _dated(a.get("end_time"))
    ]
    if not attempts:
        return "never ran, or had not ended"
    gpus = sum(len(server.get("gpus", [])) for server in attempts[-1].get("detail", []))
    if not gpus:
        return "asks for no accelerator"
    spans_s = [_seconds(a["end_time"]) - _seconds(a["start_time"]) for a in attempts]
    words = {"Pass": "finished", "Killed": "cancelled", "Failed": "failed"}
    return {
        "submit_s": _seconds(entry["submitted_time"]),
        "duration_s": max(0.0, sum(spans_s) if which == "sum" else spans_s[-1]),
        "accelerators": gpus,
        "name": str(entry["jobid"]),
        "queue": str(entry["vc"]),
        "user": str(entry["user"]),
        "status": words.get(str(entry["status"]), "finished"),
    }


def _dated(word: Any) -> bool:
    return isinstance(word, str) and len(word) >= 19 and word[:4].isdigit()


def _seconds(word: str) -> float:
    return float(np.datetime64(word[:19].replace(" ", "T"), "s").astype(np.int64))


def read_gavel(file: Path, options: ReadOptions) -> Jobs:
    """Read a trace of Gavel (OSDI 2020); durations are steps over the throughput on the reference."""
    text = open_text(file)
    width = len(text.split("\n", 1)[0].split("\t"))
    if width not in _GAVEL:
        raise SpecError([Problem("", f"has {width} fields; Gavel's traces have 7 or 10", str(file), 1)])
    table = read_table(file, "\t", "", _GAVEL[width])
    table = table if width == 10 else _shifted(file, table)
    scale, steps, kinds = table.numbers("scale"), table.numbers("steps"), table.text("job_type")
    rates = gavel_throughputs(options.throughputs or _beside(file, "simulation_throughputs.json.gz"))
    speed = np.array(
        [
            rates[options.reference].get((kind, int(n)), np.nan)
            for kind, n in zip(kinds.tolist(), scale.tolist(), strict=True)
        ]
    )
    table.drop(~(speed > 0), f"no throughput on {options.reference}")
    with np.errstate(divide="ignore", invalid="ignore"):
        duration_s = steps / speed
    return jobs_from(
        table,
        {
            "submit_s": table.numbers("arrival"),
            "duration_s": duration_s,
            "accelerators": scale,
            "priority": table.numbers("priority", empty=1.0),
            "profile": kinds,
        },
    )


def _beside(file: Path, name: str) -> Path:
    """Return the file *name* in the folder of *file* or the one above."""
    for folder in file.resolve().parents[:2]:
        if (folder / name).is_file():
            return folder / name
    raise ClusterSimError(f"{file}: needs Gavel's measured throughputs, {name}; there is none beside it")


def _shifted(file: Path, table: TextTable) -> TextTable:
    """Return an older trace with its columns right: it has no working folder."""
    return read_table(file, "\t", "", _GAVEL_OLD) if "." in table.text("scale")[0] else table


def gavel_throughputs(file: Path) -> dict[str, dict[tuple[str, int], float]]:
    """Return Gavel's measured steps per second by accelerator, then by job type and size, jobs alone."""
    data = json.loads(gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes())
    return {
        kind: {_job_type(key): float(value["null"]) for key, value in jobs.items() if "null" in value}
        for kind, jobs in data.items()
    }


def _job_type(key: str) -> tuple[str, int]:
    """Read a key such as ``('ResNet-18 (batch size 16)', 2)``."""
    name, _, number = key.strip("()").rpartition(", ")
    return name.strip("'\""), int(number)


def read_pollux(file: Path, options: ReadOptions) -> Jobs:
    """Read a workload of Pollux or Sia: an application and a size, and a duration only if one is given."""
    table = read_table(file)
    names, sizes = table.text("application"), np.maximum(table.numbers("num_replicas", empty=1.0), 1)
    services_s = np.array([options.services_s.get(name, np.nan) for name in names.tolist()])
    if not np.isfinite(services_s).any():
        raise ClusterSimError(
            f"{file}: holds no durations; give services_s, the accelerator-seconds of each application: "
            f"{', '.join(sorted(set(names.tolist())))}"
        )
    return jobs_from(
        table,
        {
            "submit_s": table.numbers("time"),
            "duration_s": services_s / sizes,
            "accelerators": sizes,
            "name": table.text("name"),
            "profile": names,
            "min_accelerators": np.ones(len(table)),
            "max_accelerators": np.maximum(sizes, 64),
        },
    )
