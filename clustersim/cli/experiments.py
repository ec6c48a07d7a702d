"""run, validate, schema: from a file to results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from clustersim.cli.base import (
    AsJson,
    Out,
    Sets,
    SpecFile,
    app,
    changes,
    complain,
    err,
    note,
    say,
    show,
    show_json,
    writing,
)
from clustersim.errors import ClusterSimError, SpecError

if TYPE_CHECKING:
    from clustersim.results import Run, Sweep
    from clustersim.spec.experiment import Experiment

HEADLINE = (
    "throughput_tokens_per_s",
    "slo_attainment_share",
    "ttft_p50_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "tpot_p99_s",
    "itl_p99_s",
    "energy_j_per_token",
)
"""The metrics that fit a terminal; programs get all."""


@app.command()
def run(
    spec: SpecFile,
    sets: Sets = None,
    to: Out = Path("runs"),
    replications: Annotated[
        int, typer.Option("--replications", "-n", min=1, help="Random repetitions of each point.")
    ] = 1,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, help="Runs at a time; 0 takes the cores there are.")
    ] = 0,
    report: Annotated[bool, typer.Option(help="Write a report beside the results.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run an experiment, or its sweep, print what came out and write the report."""
    experiment = _load(spec, sets)
    _announce_compilation()
    try:
        if not experiment.sweep and replications == 1:
            _run_one(experiment, to, report, as_json)
        else:
            _run_sweep(experiment, to, replications, jobs, report, as_json)
    except KeyboardInterrupt:
        complain("interrupted; what is finished is kept, and the same command goes on from there")
        raise typer.Exit(130) from None


@app.command()
def validate(spec: SpecFile, sets: Sets = None) -> None:
    """Check an experiment, and say what it would run, without running it."""
    from clustersim.rng import Streams
    from clustersim.sim.plan import plan

    experiment, wrong = _load(spec, sets), []
    for point in experiment.points():
        try:
            at = experiment.at(point) if experiment.sweep else experiment
            service = plan(at, Streams(experiment.seed))
        except SpecError as error:
            wrong.append(error)
    if wrong:
        raise SpecError.of(wrong)
    found, memory = service.budget, service.fleet.memory
    serving = experiment.serving
    say(
        f"ok: {experiment.name}: {_count(len(experiment.points()), 'point')}, "
        f"{_count(len(service.requests), 'request')} each; {_count(serving.replicas, 'replica')} "
        f"of {serving.accelerators_per_replica} x {experiment.cluster.kind.name}"
    )
    say(
        f"each accelerator: {found.weights_bytes / 2**30:.1f} GiB of weights, "
        f"{found.kv_bytes / 2**30:.1f} GiB of cache; a replica caches "
        f"{memory.blocks * memory.block_tokens:,} tokens in {memory.blocks:,} blocks"
    )
    for warning in (*service.warnings, *service.notes):
        note(warning)


@app.command()
def schema(to: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.")] = None) -> None:
    """Print the JSON schema of an experiment, for editors that complete and check."""
    import json

    from clustersim.spec.experiment import Experiment

    text = json.dumps(Experiment.model_json_schema(), indent=2) + "\n"
    if to is None:
        typer.echo(text, nl=False)
        return
    with writing(to):
        to.write_text(text, encoding="utf-8")
    say(f"wrote {to}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _load(spec: Path, sets: list[str] | None) -> Experiment:
    from clustersim.spec.experiment import load

    return load(spec, changes(sets))


def _run_one(experiment: Experiment, to: Path, report: bool, as_json: bool) -> None:
    from clustersim.runs.single import Job, make

    folder, manifest = make(Job(experiment, to, {}))
    rows = [{"name": experiment.name, **manifest["summary"]}]
    if as_json:
        show_json(rows)
    if report:
        from clustersim.results import Run

        _report(Run(folder), folder / "report.html", silent=as_json)
    if not as_json:
        _show(rows, ["name"])
    for warning in (*manifest["warnings"], *manifest["notes"]):
        note(f"note: {warning}")
    note(f"results: {folder}")


def _run_sweep(
    experiment: Experiment, to: Path, replications: int, jobs: int, report: bool, as_json: bool
) -> None:
    from clustersim.runs.sweeping import sweep

    count = len(experiment.points()) * replications
    with _executor(jobs or min(os.cpu_count() or 1, count)) as executor, _bar(count) as progress:
        folder = sweep(experiment, to, replications, executor, progress)
    rows = _index(folder)
    if as_json:
        show_json(rows)
    if report:
        from clustersim.results import Sweep

        _report(Sweep(folder), folder / "report.html", silent=as_json)
    if not as_json:
        axes = [name for name in rows[0] if name in {p for point in experiment.points() for p in point}]
        _show(rows, [*axes, *(["replication"] if replications > 1 else [])])
    failed = [row for row in rows if row["status"] != "ok"]
    for row in failed:
        _complain_of(row, experiment)
    note(f"results: {folder}")
    if len(failed) == len(rows):
        raise ClusterSimError(f"all {len(rows)} runs failed")


def _complain_of(row: dict[str, Any], experiment: Experiment) -> None:
    """Say of a failed run which it was and why, a line for each reason."""
    from clustersim.record.words import settings

    axes = {path: row[path] for point in experiment.points() for path in point}
    reasons = row["message"].splitlines()
    for reason in reasons[-1:] if row["message"].startswith("Traceback") else reasons:
        text = escape(f"{settings(axes)}: {reason}".removeprefix(": "))
        err.print(f"[red]failed[/] {text}", highlight=False, soft_wrap=True)


def _index(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(folder / "index.parquet").to_pylist()
    return rows


def _show(rows: list[dict[str, Any]], first: list[str]) -> None:
    """Print the runs: to people the swept fields and the headline in good units, to programs everything."""
    from clustersim.cli.base import out

    if not out.is_terminal:
        show(rows)
        return
    from clustersim.record.summary import BY_NAME
    from clustersim.record.words import quantity

    kept = [name for name in HEADLINE if any(row[name] == row[name] for row in rows)]
    show(
        [
            {name: row.get(name) for name in first}
            | {BY_NAME[name].label: quantity(name, row[name]) for name in kept}
            for row in rows
        ]
    )


def _report(results: Run | Sweep, file: Path, *, silent: bool) -> None:
    from clustersim.report import write
    from clustersim.results.headline import answer

    write(results, file)
    if not silent:
        for sentence in answer(results):
            say(sentence)
    note(f"report: {file}")


def _announce_compilation() -> None:
    from clustersim.kernels import cache_folder

    folder = cache_folder()
    if folder is not None and not any(folder.rglob("*.nbc")):
        note("compiling the engine, which happens once (about 20 s)")


@contextmanager
def _executor(jobs: int) -> Iterator[Executor | None]:
    if jobs <= 1:
        yield None
        return
    from clustersim.runs.executors import interrupt_all, processes

    pool = processes(jobs)
    try:
        yield pool
    except KeyboardInterrupt:
        interrupt_all()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def progress_for_logs(every_s: float) -> Callable[[int, int], None]:
    """Return a function that notes how far a sweep is, but not more often than *every_s*."""
    last_s = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= every_s:
            last_s = time.monotonic()
            note(f"{done} of {total} runs are done")

    return tell


@contextmanager
def _bar(count: int) -> Iterator[Any]:
    """Show progress on standard error: a bar for people, a line now and then for logs."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not err.is_terminal:
        yield progress_for_logs(10.0)
        return
    columns = (TextColumn("Running"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("run", total=count)
        yield lambda done, total: bar.update(task, completed=done, total=total)
