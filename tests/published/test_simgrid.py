"""Completion times against SimGrid's, on the same fat trees, routes and flows.

SimGrid runs its model CM02 with window limits, cross traffic and latencies off, so that both share links by
max-min fairness. Its answers carry its own precision of about 1e-5; told to compute more precisely, it
agrees with ours to rounding. Routes are the destination's own on both sides (D-mod-k).
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clustersim.network.build import build
from clustersim.network.route import routes
from clustersim.network.share import FlowSet
from clustersim.spec.fabric import FatTree, LinkClass

HERE = Path(__file__).parent
REFERENCE = HERE / "simgrid_reference.csv"
BANDWIDTH = 50e9
OPTIONS = ("network/model:CM02", "network/TCP-gamma:0", "network/crosstraffic:0", "network/weight-S:0")
PRECISE = ("maxmin/precision:1e-12", "surf/precision:1e-15")
Shape = tuple[int, int, int]


def finish_times(shape: Shape, source: Any, target: Any, size: Any) -> Any:
    """Return when each of our flows ends, all started at once on a full-bisection fat tree."""
    hosts, leaves, pods = shape
    link = LinkClass(bandwidth=BANDWIDTH)
    tree = FatTree(
        name="tree",
        hosts_per_leaf=hosts,
        leaves_per_pod=leaves,
        pods=pods,
        spines_per_pod=hosts,
        cores_per_spine=leaves,
        links={"host": link, "leaf": link, "spine": link},
        routing="static",
    )
    topology = build(tree)
    flows = FlowSet(topology.capacity_bytes_per_s)
    numbers = flows.add_paths(routes(topology, source, target), size)
    finish_s = flows.drain()
    return np.array([finish_s[number] for number in numbers.tolist()])


def draw(shape: Shape, count: int, seed: int) -> tuple[Any, Any, Any]:
    """Draw flows between random hosts, 1 to 11 MB each."""
    rng, hosts = np.random.default_rng(seed), int(np.prod(shape))
    source = rng.integers(0, hosts, count)
    target = (source + 1 + rng.integers(0, hosts - 1, count)) % hosts
    return source, target, np.round(rng.random(count) * 1e7 + 1e6)


def test_a_few_flows_end_when_simgrid_says() -> None:
    """40 flows among 64 hosts; SimGrid 3.32 with high precision, computed here in 2026-11."""
    with REFERENCE.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    source, target = (np.array([int(row[name]) for row in rows]) for name in ("source", "target"))
    size, wanted = (np.array([float(row[name]) for row in rows]) for name in ("bytes", "finish_s"))
    assert len(rows) == 40
    assert finish_times((4, 4, 4), source, target, size) == pytest.approx(wanted, rel=1e-12)


@pytest.fixture(scope="module")
def simgrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the program that runs the flows in SimGrid."""
    program = tmp_path_factory.mktemp("simgrid") / "flows"
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the SimGrid program with")
    command = ["g++", "-O2", str(HERE / "simgrid_flows.cpp"), "-lsimgrid", "-o", str(program)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("SimGrid's library is not installed (Debian: libsimgrid-dev)")
    return program


def ask(simgrid: Path, shape: Shape, flows: tuple[Any, Any, Any], *options: str) -> Any:
    """Return when SimGrid's flows end."""
    hosts, leaves, pods = shape
    lines = [f"{hosts} {leaves} {pods} {hosts} {leaves} {BANDWIDTH:g} {len(flows[0])}"]
    lines += [f"{a} {b} {size:.17g}" for a, b, size in zip(*flows, strict=True)]
    file = simgrid.parent / "flows.txt"
    file.write_text("\n".join(lines) + "\n")
    command = [str(simgrid), str(file), *(f"--cfg={option}" for option in (*OPTIONS, *options))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.array([float(line) for line in found.stdout.split()])


SMALL, LARGE = (16, 8, 8), (16, 16, 32)


@pytest.mark.parametrize(("shape", "count"), [(SMALL, 1000), (LARGE, 1000), (SMALL, 10_000), (LARGE, 10_000)])
def test_completion_times_are_simgrids(simgrid: Path, shape: Shape, count: int) -> None:
    """Mean relative error at most 1e-6, worst at most 1e-4."""
    if count > 1000 and not os.environ.get("CLUSTERSIM_SIMGRID_FULL"):
        pytest.skip("SimGrid takes two minutes for 10,000 flows; set CLUSTERSIM_SIMGRID_FULL=1")
    flows = draw(shape, count, seed=count + sum(shape))
    error = np.abs(finish_times(shape, *flows) / ask(simgrid, shape, flows) - 1)
    assert len(error) == count
    assert error.mean() <= 1e-6
    assert error.max() <= 1e-4


def test_a_more_precise_simgrid_agrees_to_rounding(simgrid: Path) -> None:
    flows = draw(SMALL, 1000, seed=1)
    error = np.abs(finish_times(SMALL, *flows) / ask(simgrid, SMALL, flows, *PRECISE) - 1)
    assert error.max() <= 1e-12
