"""Runs are repeatable to the byte, never made twice, never half kept; a sweep outlives what fails in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import clustersim as cs
from clustersim.errors import ClusterSimError, FieldError, Problem, SpecError, UnknownNameError
from clustersim.runs import processes, sweep
from clustersim.runs.single import Job, make

POLICIES = Path(__file__).parent / "policies"
SPEC = """\
name: chat
cluster: {node: dgx-h100}
serving:
  model: llama-3.1-8b
  replicas: 2
  router: power-of-two
  slo: {ttft: 1 s}
workload:
  rate: 8 /s
  requests: 40
  prompt: {kind: lognormal, mean: 300, sigma: 1.0}
  output: {kind: exponential, mean: 40}
"""
SWEEP = """\
sweep:
  serving.batching: [prefill-first, {kind: chunked, token_budget: 512}]
  workload.rate: [8 /s, 16 /s]
"""
Start = Callable[..., cs.Experiment]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that writes a spec, with more lines and overrides, and reads it."""

    def started(more: str = "", **overrides: Any) -> cs.Experiment:
        (tmp_path / "chat.yaml").write_text(SPEC + more, encoding="utf-8")
        return cs.load(tmp_path / "chat.yaml", {k.replace("__", "."): v for k, v in overrides.items()})

    return started


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    """Return two worker processes for the tests of this module."""
    with processes(2) as workers:
        yield workers


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every table below *folder*, by the run's name without its own digest."""
    files = sorted(folder.rglob("*.parquet"))
    assert files
    return {
        re.sub("-[0-9a-f]{8}/", "/", file.relative_to(folder).as_posix()): hashlib.sha256(
            file.read_bytes()
        ).hexdigest()
        for file in files
        if file.name != "index.parquet"
    }


def index(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "index.parquet").to_pylist()
    return rows


def column(folder: Path, table: str, name: str) -> list[Any]:
    values: list[Any] = pq.read_table(folder / f"{table}.parquet")[name].to_pylist()
    return values


def made_at(folder: Path) -> dict[str, int]:
    """Return when each run below *folder* was written."""
    return {file.parent.name: file.stat().st_mtime_ns for file in folder.rglob("manifest.json")}


def one(experiment: cs.Experiment, out: Path, replication: int = 0) -> Path:
    return make(Job(experiment, out, {}, replication))[0]


# The same spec gives the same bytes


def test_the_same_seed_gives_the_same_bytes_whatever_the_hashes_the_workers_and_the_order(
    start: Start, tmp_path: Path, pool: Any
) -> None:
    start(SWEEP)
    command = [
        sys.executable,
        "-m",
        "clustersim",
        "run",
        "chat.yaml",
        "--no-report",
        "-j",
        "1",
        "-o",
        "hashes",
    ]
    subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "4711"}, check=True, capture_output=True
    )
    here = digests(sweep(start(SWEEP), tmp_path / "here"))
    backwards = SWEEP.replace("[8 /s, 16 /s]", "[16 /s, 8 /s]")
    assert len(here) == 4 * 5
    assert digests(tmp_path / "hashes" / "chat") == here
    assert digests(sweep(start(backwards), tmp_path / "pool", executor=pool)) == here


def test_another_seed_or_replication_gives_other_arrivals(start: Start, tmp_path: Path) -> None:
    runs = [one(start(), tmp_path), one(start(), tmp_path, 1), one(start(seed=1), tmp_path)]
    assert len({tuple(column(run, "requests", "arrival_s")) for run in runs}) == 3


def test_policies_meet_the_same_requests(start: Start, tmp_path: Path) -> None:
    axis = "sweep:\n  serving.batching: [orca, chunked, prefill-first]\n"
    folder = sweep(start(axis, workload__rate="200 /s"), tmp_path)
    runs = [folder / row["folder"] for row in index(folder)]
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert len({tuple(column(run, "requests", name)) for run in runs}) == 1
    assert len({tuple(column(run, "requests", "finish_s")) for run in runs}) == 3


def test_leaving_the_iterations_out_changes_no_summary(start: Start, tmp_path: Path) -> None:
    full, lean = one(start(), tmp_path), one(start(record__iterations="off"), tmp_path)
    assert (full / "iterations.parquet").is_file()
    assert not (lean / "iterations.parquet").exists()
    summaries = [json.loads((run / "manifest.json").read_text())["summary"] for run in (full, lean)]
    assert summaries[0] == summaries[1]
    assert summaries[0]["finished"] == 40


# What is done is not done again, unless something that makes it has changed


def test_a_finished_point_is_not_run_again_and_a_new_one_is(start: Start, tmp_path: Path) -> None:
    folder = sweep(start(SWEEP), tmp_path)
    before = made_at(folder)
    sweep(start(SWEEP.replace("16 /s", "24 /s")), tmp_path)
    after = made_at(folder)
    assert before.items() <= after.items()
    assert len(after) - len(before) == 2
    assert [row["workload.rate"] for row in index(folder)] == ["8 /s", "24 /s"] * 2


def test_an_edited_policy_runs_again(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    shutil.copy(POLICIES / "mine.py", file)
    spec = {"serving__batching": "mine.py:OneByOne", "workload__rate": "200 /s"}
    first = one(start(**spec), tmp_path)
    assert one(start(**spec), tmp_path) == first
    file.write_text(file.read_text().replace("view.waiting[:1]", "view.waiting[-1:]"))
    second = one(start(**spec), tmp_path)
    assert second != first
    assert column(second, "requests", "finish_s") != column(first, "requests", "finish_s")


def test_an_edited_data_file_and_a_changed_field_run_again(start: Start, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    rows = ["arrival_s,prompt_tokens,output_tokens", *(f"{n / 4},{100 + n},20" for n in range(20))]
    trace.write_text("\n".join(rows))
    spec = {"workload": {"kind": "trace", "file": "t.csv"}}
    first = one(start(**spec), tmp_path)
    assert one(start(**spec), tmp_path) == first
    trace.write_text("\n".join(rows).replace("4.75,119", "4.75,120"))
    assert one(start(**spec), tmp_path) != first
    trace.write_text("\n".join(rows))
    assert one(start(**spec), tmp_path) == first
    assert one(start(**spec, serving__replicas=1), tmp_path) != first


def test_an_interrupted_sweep_keeps_whole_runs_and_goes_on_from_there(start: Start, tmp_path: Path) -> None:
    start("sweep:\n  workload.rate: [1 /s, 2 /s, 3 /s, 4 /s]\n")
    folder = tmp_path / "runs" / "chat"
    command = [sys.executable, "-m", "clustersim", "run", "chat.yaml", "--no-report", "-j", "1"]
    command += ["-s", "workload.requests=6000", "-s", "serving.batching=mine.py:OneByOne"]
    shutil.copy(POLICIES / "mine.py", tmp_path)
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline_s = time.monotonic() + 60
    while not made_at(folder) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, complaint = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, ""), complaint
    assert "interrupted; what is finished is kept" in complaint
    assert "Traceback" not in complaint
    kept = made_at(folder)
    assert 1 <= len(kept) < 4
    assert {path.name for path in folder.iterdir()} - kept.keys() <= {"index.parquet"}
    if (folder / "index.parquet").exists():
        assert {row["folder"] for row in index(folder)} <= kept.keys()
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 5
    assert kept.items() <= made_at(folder).items()
    assert [row["workload.rate"] for row in index(folder)] == ["1 /s", "2 /s", "3 /s", "4 /s"]


# What fails is a row, and leaves nothing half written


def test_a_point_that_fails_is_a_row_and_the_others_run(start: Start, tmp_path: Path, pool: Any) -> None:
    shutil.copy(POLICIES / "broken.py", tmp_path)
    policies = "broken.py:Seventeen, chunked, {kind: chunked, max_batch: 0}, broken.py:Idle"
    experiment = start(f"sweep:\n  serving.batching: [{policies}]\n")
    folder = sweep(experiment, tmp_path, executor=pool)
    rows = index(folder)
    assert [row["status"] for row in rows] == ["failed", "ok", "failed", "failed"]
    assert [row["stage"] for row in rows] == ["run", "", "spec", "run"]
    assert "Seventeen returned 17" in rows[0]["message"]
    assert rows[2]["message"].startswith(f"{tmp_path / 'chat.yaml'}:14:")
    assert "serving.batching.max_batch: input should be greater than 0" in rows[2]["message"]
    assert "stands still" in rows[3]["message"]
    assert {path.name for path in folder.iterdir()} == {"index.parquet", rows[1]["folder"]}
    alone = sweep(experiment, tmp_path / "alone")
    assert index(alone)[0]["message"] == rows[0]["message"]
    assert digests(alone) == digests(folder)


def test_a_run_is_written_beside_its_place_and_moved_there_whole(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spy(folder: Path, tables: Any) -> None:
        seen.extend(path.name for path in folder.parent.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clustersim.runs.single.write_tables", spy)
    with pytest.raises(ClusterSimError, match=r"chat/run_r0-.* cannot be written: No space left on device"):
        one(start(), tmp_path / "out")
    assert len(seen) == 1
    assert seen[0].endswith(".part")
    assert not (tmp_path / "out").exists()


def test_what_an_earlier_crash_left_is_replaced(start: Start, tmp_path: Path) -> None:
    run = one(start(), tmp_path)
    tables = digests(run)
    run.rename(run.with_name(run.name + ".part"))
    (run.with_name(run.name + ".part") / "manifest.json").write_text("{")
    assert digests(one(start(), tmp_path)) == tables
    assert [path.name for path in run.parent.iterdir()] == [run.name]


# Policies of one's own


def test_a_policy_from_a_file_runs_in_two_processes(start: Start, tmp_path: Path, pool: Any) -> None:
    shutil.copy(POLICIES / "mine.py", tmp_path)
    router = "{kind: mine.py:LastReplica, back: 1}"
    axes = f"sweep:\n  serving.batching.max_batch: [1, 32]\n  serving.router: [{router}]\n"
    folder = sweep(start(axes, serving__batching="mine.py:OneByOne"), tmp_path, executor=pool)
    rows = index(folder)
    assert [(row["status"], row["serving.batching.max_batch"]) for row in rows] == [("ok", 1), ("ok", 32)]
    assert rows[0]["e2e_mean_s"] > rows[1]["e2e_mean_s"]
    assert {*column(folder / rows[0]["folder"], "requests", "replica")} == {0}


def test_a_policy_object_runs_alone_and_a_sweep_says_where_to_put_it(start: Start, tmp_path: Path) -> None:
    from tests.faces.policies.mine import OneByOne

    experiment = start()
    serving = experiment.serving.model_copy(update={"batching": OneByOne(max_batch=4)})
    mine = experiment.model_copy(update={"serving": serving})
    assert cs.run(mine, tmp_path).summary["finished"] == 40
    swept = cs.Experiment.model_validate({**mine.model_dump(), "serving": serving, "sweep": {"seed": [1, 2]}})
    with pytest.raises(SpecError, match=r"serving\.batching: .*write file\.py:OneByOne"):
        sweep(swept, tmp_path)


def test_a_card_is_changed_by_the_path_of_its_field_and_swept_over_files(
    start: Start, tmp_path: Path
) -> None:
    assert start(cluster__node__accelerator__memory="40 GiB").cluster.kind.memory == 40 * 2**30
    assert start(cluster__node__link__bandwidth="100 GB/s").cluster.kind.link_bandwidth == 100e9
    assert start(serving__batching__token_budget=99).serving.batching.model_dump()["token_budget"] == 99
    card = cs.load(tmp_path / "chat.yaml").serving.model.model_dump(mode="json", exclude={"published"})
    (tmp_path / "small.json").write_text(json.dumps({**card, "layers": 4}))
    swept = start("sweep:\n  serving.model: [small.json, llama-3.1-8b]\n  serving.slo.ttft: [2 s]\n")
    points = [swept.at(point) for point in swept.points()]
    assert [point.serving.model.layers for point in points] == [4, 32]
    assert {point.serving.slo.ttft for point in points} == {2.0}
    assert swept.serving.slo.ttft == 1.0


@pytest.mark.parametrize(
    "error",
    [
        SpecError([Problem("serving.replicas", "is wrong", "chat.yaml", 3, 4)]),
        UnknownNameError("node", "dgx", ["dgx-h100"]),
        FieldError("replicas", "is wrong"),
    ],
)
def test_errors_travel_between_processes(error: Exception) -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
