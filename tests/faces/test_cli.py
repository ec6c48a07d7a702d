"""The command line: quick to start, tables for people, CSV and JSON for programs; every command works."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from clustersim.cli import main
from clustersim.cli.experiments import progress_for_logs
from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Router
from clustersim.policies.registry import names
from clustersim.record.summary import METRICS
from clustersim.record.tables import TABLES
from clustersim.spec.base import card_files
from clustersim.spec.catalogue import FOLDERS
from clustersim.spec.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
SCRIPTS = [
    file for file in sorted((ROOT / "experiments").glob("*.py")) if "CLUSTERSIM_REQUESTS" in file.read_text()
]
BASES = (BatchingPolicy, Router, Admission, ArrivalShape)
SPEC = """\
name: chat
cluster: {node: dgx-h100, nodes: 1}
serving: {model: llama-3.1-8b, slo: {ttft: 1 s, tpot: 50 ms}}
workload: {rate: 8 /s, requests: 40, prompt: 300, output: 30}
"""
AXIS = "sweep.serving.batching=[chunked, orca]"
Tell = Callable[..., tuple[str, str]]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Return a function that runs the command line and returns its standard output and error."""

    def told(*args: str | Path, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["clustersim", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        output, remarks = capsys.readouterr()
        assert end.value.code == status, remarks
        return output, remarks

    return told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a spec, the runs of its sweep and a single run."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "chat.yaml").write_text(SPEC, encoding="utf-8")
    for more in ([], ["-s", AXIS, "-s", "name=sweep"]):
        with pytest.MonkeyPatch.context() as patch:
            command = ["clustersim", "run", "chat.yaml", "--no-report", "-o", "runs", "-j", "1", *more]
            patch.setattr(sys, "argv", command)
            patch.setattr(sys, "stdout", io.StringIO())
            patch.chdir(folder)
            with pytest.raises(SystemExit, match="0"):
                main()
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def strictly(text: str) -> Any:
    """Return what JSON says; NaN and Infinity are none."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


# It starts at once


@pytest.mark.parametrize(
    ("args", "banned"),
    [
        (["--help"], "numpy pandas plotly simpy pyarrow networkx numba dash"),
        (["run", "--help"], "numpy pandas plotly simpy pyarrow networkx numba dash"),
        (["list", "nodes"], "numpy pandas plotly simpy pyarrow networkx numba dash"),
        (["run", "wrong.yaml"], "pandas plotly simpy pyarrow networkx numba dash"),
        (["run", "chat.yaml", "--no-report", "--json"], "pandas plotly networkx dash"),
    ],
)
def test_a_command_imports_only_what_it_needs(args: list[str], banned: str, here: Path) -> None:
    (here / "wrong.yaml").write_text(SPEC.replace("replicas", "replica").replace("8 /s", "8"))
    command = [sys.executable, "-X", "importtime", "-m", "clustersim", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (2 if "wrong.yaml" in args else 0), done.stderr[-2000:]
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    assert "clustersim.cli" in imported
    assert not imported & set(banned.split())


def test_help_takes_less_than_half_a_second_of_cpu() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "clustersim", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


# run: people read a table, programs get everything


def test_a_pipe_gets_csv_with_every_metric_by_its_full_name(here: Path, tell: Tell) -> None:
    output, remarks = tell("run", "chat.yaml", "--no-report")
    (row,) = rows(output)
    assert list(row) == ["name", *(metric.name for metric in METRICS)]
    assert (row["name"], row["finished"]) == ("chat", "40")
    assert 0 < float(row["ttft_p50_s"]) < 1
    assert re.fullmatch(r"results: runs/chat/run_r0-[0-9a-f]{8}\n", remarks)


def test_json_is_the_same_and_strict(here: Path, tell: Tell) -> None:
    output, _ = tell("run", "chat.yaml", "--json", "--no-report", "-s", "serving.slo={}")
    (record,) = strictly(output)
    assert list(record) == ["name", *(metric.name for metric in METRICS)]
    assert record["goodput_requests_per_s"] is None
    (row,) = rows(tell("run", "chat.yaml", "--no-report", "-s", "serving.slo={}")[0])
    for metric in METRICS:
        value = record[metric.name]
        assert float(row[metric.name]) == pytest.approx(float("nan") if value is None else value, nan_ok=True)


def test_a_single_request_has_no_rate_and_is_still_json(here: Path, tell: Tell) -> None:
    (record,) = strictly(tell("run", "chat.yaml", "--json", "--no-report", "-s", "workload.requests=1")[0])
    assert (record["finished"], record["request_rate_per_s"]) == (1, None)


def test_a_sweep_is_a_row_for_each_run_in_its_order(here: Path, tell: Tell) -> None:
    swept = ["run", "chat.yaml", "-s", AXIS, "-s", "name=sweep", "-j", "1", "-n", "2", "--no-report"]
    output, _ = tell(*swept)
    found = [(row["serving.batching"], row["replication"], row["status"]) for row in rows(output)]
    assert found == [(p, r, "ok") for p in ("chunked", "orca") for r in "01"]
    records = strictly(tell(*swept, "--json")[0])
    assert [record["folder"] for record in records] == [row["folder"] for row in rows(output)]
    assert list(records[0])[6:] == [metric.name for metric in METRICS]


def test_a_failed_point_is_told_and_the_rest_is_printed(here: Path, tell: Tell) -> None:
    output, remarks = tell(
        "run",
        "chat.yaml",
        "-s",
        "name=some",
        "-s",
        "sweep.serving.tensor_parallel=[1, 3]",
        "--no-report",
        "-j",
        "1",
    )
    assert [row["status"] for row in rows(output)] == ["ok", "failed"]
    assert "failed tensor_parallel 3: --set: serving.tensor_parallel: 3 does not divide the 32" in remarks


def test_a_terminal_gets_the_answer_first_and_a_table_that_fits(here: Path) -> None:
    if shutil.which("script") is None:
        pytest.skip("no 'script' here to pretend a terminal")
    command = f"{sys.executable} -m clustersim run chat.yaml -s '{AXIS}' -o shown -j 1"
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], env=environment, capture_output=True, text=True, check=True
    )
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout).replace("\r", "\n")
    lines = [line for line in text.splitlines() if line.strip() and "Running" not in line]
    assert re.match("Highest (goodput|throughput): .* with batching (chunked|orca)", lines[0])
    assert lines.index("report: shown/chat/report.html") < next(
        n for n, x in enumerate(lines) if "TTFT p99" in x
    )
    assert max(map(len, lines)) <= 110
    assert lines[-1] == "results: shown/chat"


# validate, schema


def test_validate_says_what_would_run_and_how_memory_is_filled(here: Path, tell: Tell) -> None:
    output, remarks = tell("validate", "chat.yaml", "-s", AXIS, "-s", "serving.tensor_parallel=2")
    assert output == ""
    assert "ok: chat: 2 points, 40 requests each; 1 replica of 2 x H100 SXM" in remarks
    memory = re.search(r"each accelerator: ([\d.]+) GiB of weights, ([\d.]+) GiB of cache", remarks)
    assert memory is not None
    assert float(memory[1]) == pytest.approx(8.03e9 * 2 / 2 / 2**30, rel=0.02)
    assert float(memory[1]) + float(memory[2]) < 0.9 * 80
    assert not (here / "runs" / "chat" / "index.parquet").exists()


def test_validate_names_what_is_wrong_with_every_point(here: Path, tell: Tell) -> None:
    axis = "sweep.serving.tensor_parallel=[1, 3, 5]"
    _, remarks = tell("validate", "chat.yaml", "-s", axis, status=2)
    assert [line.split(": ")[2][:7] for line in remarks.splitlines()] == ["3 does ", "5 does "]


def accepts(schema: Mapping[str, Any], value: Any, defs: Mapping[str, Any]) -> bool:
    """Say whether *value* fits a JSON schema, as far as ours use the language."""
    if "$ref" in schema:
        return accepts(defs[schema["$ref"].rpartition("/")[2]], value, defs)
    if "anyOf" in schema and not any(accepts(part, value, defs) for part in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "pattern" in schema and not (isinstance(value, str) and re.search(schema["pattern"], value)):
        return False
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    if schema.get("type", "null") != "null" and not isinstance(value, kinds[schema["type"]]):
        return False
    if schema.get("type") != "object":
        return True
    known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
    return set(schema.get("required", ())) <= value.keys() and all(
        accepts(known[key], inner, defs)
        if key in known
        else other is True or (other is not False and accepts(other, inner, defs))
        for key, inner in value.items()
    )


def test_the_schema_knows_the_experiments_and_what_fields_mean(here: Path, tell: Tell) -> None:
    schema = strictly(tell("schema")[0])
    defs = schema["$defs"]
    assert set(schema["properties"]) == set(Experiment.model_fields)
    assert set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))) == set(defs)
    assert all(part.get("description") for part in (schema, *defs.values()))
    for file in EXPERIMENTS:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert accepts(schema, spec, defs), file.name
        spec["serving"]["replcas"] = 2
        assert not accepts(schema, spec, defs)
    tell("schema", "-o", "experiment.schema.json")
    assert strictly((here / "experiment.schema.json").read_text()) == schema


# list, show


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_kind_of_card_is_listed_and_shown(kind: str, tell: Tell) -> None:
    listed = rows(tell("list", kind)[0])
    try:
        files = card_files(FOLDERS[kind])
    except Exception as error:
        pytest.skip(f"the catalogue has no {kind} yet: {error}")
    assert [row["name"] for row in listed] == list(files)
    assert all(row["kind"] == kind and row["summary"] for row in listed)
    for name in list(files)[:3]:
        assert tell("show", f"{kind}/{name}")[0] == files[name].read_text(encoding="utf-8")


def test_policies_are_listed_and_shown_with_their_fields(tell: Tell) -> None:
    listed = rows(tell("list", "policies")[0])
    for base in BASES:
        assert [row["name"] for row in listed if row["kind"] == base.sort] == names(base)
    assert all(row["summary"].endswith((".", "...")) for row in listed)
    fields = {row["field"]: row["default"] for row in rows(tell("show", "chunked")[0])}
    assert fields == {"max_batch": "256", "token_budget": "2048"}
    assert rows(tell("show", f"{ROOT / 'tests/faces/policies/mine.py'}:LastReplica")[0])[0]["field"] == "back"


def test_metrics_and_tables_are_explained(tell: Tell) -> None:
    shown = rows(tell("show", "metrics")[0])
    assert [(row["metric"], row["meaning"]) for row in shown] == [(m.name, m.doc) for m in METRICS]
    for name, table in TABLES.items():
        output, remarks = tell("show", name)
        assert [(row["column"], row["meaning"]) for row in rows(output)] == [
            (c.name, c.doc) for c in table.columns
        ]
        assert table.row in remarks


# report, compare, trace


def test_reports_comparisons_and_traces_are_made_of_run_folders(here: Path, tell: Tell) -> None:
    chunked, orca = sorted((here / "runs" / "sweep").glob("*_r0-*"))
    _, remarks = tell("report", chunked, "-o", "one.html")
    assert "1 replica served" in remarks
    assert (here / "one.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Highest goodput" in tell("report", here / "runs" / "sweep")[1]
    assert (here / "runs" / "sweep" / "report.html").is_file()
    compared = rows(tell("compare", chunked, orca)[0])
    assert {row["metric"] for row in compared} <= {metric.name for metric in METRICS}
    assert "tpot_p50_s" in {row["metric"] for row in compared}
    tell("trace", chunked, "-o", "t.json.gz", "--end", "1")
    events = json.loads(gzip.decompress((here / "t.json.gz").read_bytes()))["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) > 10


def test_a_run_without_iterations_says_that_there_is_nothing_to_trace(here: Path, tell: Tell) -> None:
    tell("run", "chat.yaml", "-s", "record.iterations=off", "-s", "name=lean", "--no-report")
    (run,) = (here / "runs" / "lean").iterdir()
    assert "record.iterations was off" in tell("trace", run, status=2)[1]
    assert "1 replica served" in tell("report", run)[1]


# new, check


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.sort)
def test_a_new_policy_keeps_every_rule_and_can_be_run(
    base: type[Any], tmp_path: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("clustersim.check")
    monkeypatch.chdir(tmp_path)
    _, remarks = tell("new", base.sort, "own.py")
    assert "wrote own.py and test_own.py" in remarks
    name, field = re.findall(r"clustersim check (\S+); run it: -s (\S+)=", remarks)[0]
    assert "ok  keeps every rule" in tell("check", name, "--scenes", "5")[1]
    (tmp_path / "chat.yaml").write_text(
        SPEC.replace("rate: 8 /s, ", "" if base is ArrivalShape else "rate: 8 /s, ")
    )
    assert rows(tell("run", "chat.yaml", "--no-report", "-s", f"{field}={name}")[0])[0]["requests"] == "40"


def test_a_broken_policy_is_named_by_the_rule_it_breaks(tell: Tell) -> None:
    pytest.importorskip("clustersim.check")
    broken = ROOT / "tests" / "faces" / "policies" / "broken.py"
    assert "returned 17" in tell("check", f"{broken}:Seventeen", "--scenes", "3", status=1)[1]


# experiments


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_every_experiment_is_valid_and_runs_when_reduced(file: Path, tmp_path: Path, tell: Tell) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert "ok: " in tell("validate", file)[1]
    output, _ = tell("run", file, "-s", "workload.requests=20", "-o", tmp_path, "-j", "1", "--no-report")
    assert {row["status"] for row in rows(output)} == {"ok"}
    assert {row["finished"] for row in rows(output)} == {"20"}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_every_script_runs_when_reduced(file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "CLUSTERSIM_REQUESTS": "20", "CLUSTERSIM_RUNS": str(tmp_path)}
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) > 2
    assert list(tmp_path.rglob("manifest.json"))


def test_a_log_hears_of_progress_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    for every_s, said in ((0.0, "1 of 2 runs are done\n2 of 2 runs are done\n"), (3600.0, "")):
        tell_log = progress_for_logs(every_s)
        tell_log(1, 2)
        tell_log(2, 2)
        assert capsys.readouterr().err == said
