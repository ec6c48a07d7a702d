"""report, compare, trace, explore: runs that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clustersim.cli.base import app, note, out, say, writing
from clustersim.errors import ClusterSimError

Folder = Annotated[Path, typer.Argument(help="The folder of a run, or of a sweep.")]


@app.command()
def report(
    folder: Folder,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of a run or sweep: one HTML file that needs no network."""
    from clustersim.report import write
    from clustersim.results import open_results
    from clustersim.results.headline import answer

    results = open_results(folder)
    with writing(to or folder / "report.html"):
        file = write(results, to or folder / "report.html")
    for sentence in answer(results):
        say(sentence)
    note(f"report: {file}")
    if show:
        typer.launch(str(file.resolve()))


@app.command()
def compare(first: Folder, second: Folder) -> None:
    """Say in what two runs differ: fields of the spec, then metrics."""
    from clustersim.results import compare as compared

    found = compared(first, second)
    if out.is_terminal:
        out.print(found.text, highlight=False, soft_wrap=True, markup=False)
    else:
        typer.echo(found.metrics.to_csv(index=False), nl=False)


@app.command()
def trace(
    folder: Folder,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write (.json.gz).")] = None,
    start_s: Annotated[float, typer.Option("--start", min=0, help="Seconds into the run.")] = 0.0,
    end_s: Annotated[float | None, typer.Option("--end", min=0, help="Seconds into the run.")] = None,
) -> None:
    """Write what every replica did as a trace that opens in ui.perfetto.dev."""
    from clustersim.record.perfetto import Window, write_trace
    from clustersim.results import Run

    run = Run(folder)
    if not (folder / "iterations.parquet").is_file():
        raise ClusterSimError(f"{folder}: holds no iterations (record.iterations was off); nothing to draw")
    tables = {
        name: {column: table[column].to_numpy() for column in table}
        for name, table in (
            ("requests", run.requests),
            ("iterations", run.iterations),
            ("power", run.power),
        )
    }
    file = to or folder / "trace.json.gz"
    with writing(file):
        written = write_trace(tables, file, Window(start_s, float("inf") if end_s is None else end_s))
    if written.note:
        note(written.note)
    say(f"wrote {file}; open it in https://ui.perfetto.dev")


@app.command()
def explore(
    folder: Annotated[Path, typer.Argument(help="A folder with runs below it.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Where to serve.")] = 8050,
) -> None:
    """Explore runs in the browser: table, comparison, time lines (needs clustersim[explore])."""
    from clustersim.explore import app as explorer

    page = explorer(folder)
    say(f"exploring {folder} on http://127.0.0.1:{port}")
    page.run(port=port, debug=False)
