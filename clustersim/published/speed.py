"""How fast we are: the benchmarks that we claim, each the whole command in a process of its own.

The peers' figures were measured on two cores of a shared machine (CPU seconds, 2026-11): they are there
to compare the order of magnitude with; a ratio counts only between runs on one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.published.tables import find_data

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An experiment to time; *trace* is a peer's file of the measured data, where there is one."""

    id: str
    title: str
    spec: Mapping[str, Any]
    trace: str = ""
    peers: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds of the loop alone, by peer."""


_LENGTHS: Final = {
    "prompt": {"kind": "quantiles", "points": [[0, 10], [0.5, 1020], [0.9, 2735], [0.99, 4142], [1, 7000]]},
    "output": {"kind": "quantiles", "points": [[0, 1], [0.5, 129], [0.9, 424], [0.99, 601], [1, 1000]]},
}
"""Quantiles of the Azure conversation hour of 2023 (published: Azure LLM inference trace)."""

_CHUNKED: Final = {"kind": "chunked", "token_budget": 512, "max_batch": 128}
_PREFILL: Final = {"kind": "prefill-first", "token_budget": 4096, "max_batch": 128}


def _one(batching: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "cluster": {"accelerator": "a100-80gb-sxm"},
        "serving": {"model": "llama-2-7b", "batching": batching, "router": "round-robin"},
    }


def _eight(batching: Mapping[str, Any]) -> dict[str, Any]:
    spec = _one(batching)
    spec["cluster"] = {"node": "dgx-a100"}
    spec["serving"] |= {"model": "llama-2-70b", "tensor_parallel": 4, "replicas": 8}
    return spec


BENCHMARKS: Final = (
    Benchmark(
        "P1", "10,000 requests, Llama-2-7B, one A100, chunked", _one(_CHUNKED),
        "peers/serving/conv_poisson_q3.0_n10000.csv", {"vidur": 17.3, "blis": 4.0, "aisimulate": 1.6},
    ),
    Benchmark(
        "P1-prefill-first", "the same, prefill first", _one(_PREFILL),
        "peers/serving/conv_poisson_q3.0_n10000.csv", {"vidur": 16.7},
    ),
    Benchmark(
        "P2", "10,000 requests, Llama-2-70B TP4 on A100, 8 replicas, chunked", _eight(_CHUNKED),
        "peers/serving/conv_poisson_q8.0_n10000.csv", {"vidur": 22.2, "blis": 2.5, "aisimulate": 3.9},
    ),
    Benchmark(
        "P3", "one million requests, Llama-3.1-8B, 64 H100, least outstanding",
        {
            "cluster": {"node": "dgx-h100"},
            "serving": {"model": "llama-3.1-8b", "replicas": 64, "batching": _CHUNKED},
            "workload": {"rate": "400 /s", "requests": 1_000_000, **_LENGTHS},
        },
    ),
)  # fmt: skip


def measure(only: Iterable[str] | None = None, data: Path | None = None) -> list[Record]:
    """Run the benchmarks, or *only* some by id, and return what each cost; one run warms the kernels up."""
    known = {benchmark.id: benchmark for benchmark in BENCHMARKS}
    for name in only or ():
        if name not in known:
            raise UnknownNameError("benchmark", name, known)
    chosen = [known[name] for name in only] if only else list(BENCHMARKS)
    with TemporaryDirectory() as folder:
        _timed(BENCHMARKS[0], Path(folder), _synthetic("3 /s", 50))
        return [_record(benchmark, Path(folder), data) for benchmark in chosen]


def _record(benchmark: Benchmark, folder: Path, data: Path | None) -> Record:
    try:
        spent = _timed(benchmark, folder, _workload(benchmark, data))
    except ClusterSimError as error:
        return {"id": benchmark.id, "missing": f"{benchmark.id}: {error}"}
    speedups = {
        f"loop_times_{peer}": seconds / spent["loop_cpu_s"] for peer, seconds in benchmark.peers.items()
    }
    return {"id": benchmark.id, "title": benchmark.title, **spent, **speedups}


def _workload(benchmark: Benchmark, data: Path | None) -> Mapping[str, Any]:
    if not benchmark.trace:
        workload: Mapping[str, Any] = benchmark.spec["workload"]
        return workload
    file = find_data(data) / benchmark.trace
    if not file.is_file():
        raise ClusterSimError(f"{file} is missing; it is the trace that the peers were timed on")
    return {"kind": "trace", "file": str(file.resolve()), "format": "vidur"}


def _synthetic(rate: str, requests: int) -> Mapping[str, Any]:
    return {"rate": rate, "requests": requests, "too_long": "clip", **_LENGTHS}


def _timed(benchmark: Benchmark, folder: Path, workload: Mapping[str, Any]) -> Record:
    """Run the whole command in a fresh process and return what it and its loop cost."""
    name = f"{benchmark.id}-{sum(1 for _ in folder.iterdir())}"
    spec = folder / f"{name}.yaml"
    spec.write_text(yaml.safe_dump({"name": name, **benchmark.spec, "workload": dict(workload)}))
    command = [
        sys.executable,
        "-m",
        "clustersim",
        "run",
        str(spec),
        "--no-report",
        "--json",
        "-o",
        str(folder),
    ]
    wall_s = time.perf_counter()
    with (folder / f"{name}.err").open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - wall_s
    if process.returncode:
        raise ClusterSimError((folder / f"{name}.err").read_text().strip().splitlines()[-1])
    manifest = json.loads(next((folder / name).glob("*/manifest.json")).read_text())
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": wall_s,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "requests": int(manifest["summary"]["requests"]),
        "loop_cpu_s": manifest["loop_cpu_s"],
        "passes": manifest["passes"],
    }
