"""published and bench: what we claim, run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clustersim.cli.base import AsJson, app, note, out, say, show, show_json

Only = Annotated[list[str] | None, typer.Option("--only", help="Only these tables, by id.")]


@app.command()
def published(
    only: Only = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the measured files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run every published table that we claim again, and print how far we are from it."""
    from clustersim.published import rerun

    results, missing = rerun(only, data)
    records = [result.record() for result in results]
    if as_json:
        show_json(records)
    else:
        columns = ["id", "title", "rows", "mape", "median", "p90", "worst", "split", "target", "met"]
        show(records, columns if out.is_terminal else None)
    for line in missing:
        note(line)


@app.command()
def bench(
    only: Only = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the peers' traces.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure our own speed on the benchmarks that we claim."""
    from clustersim.published.speed import measure

    records = measure(only, data)
    if as_json:
        show_json(records)
        return
    for record in records:
        if "missing" in record:
            note(record["missing"])
    show([record for record in records if "missing" not in record])
    say("CPU seconds of one process; loop_cpu_s is the simulation alone")
