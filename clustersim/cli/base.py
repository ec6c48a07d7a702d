"""What all commands share: the app, the two consoles, tables, options."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clustersim.errors import ClusterSimError, SpecError

app: Final = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Simulate AI datacenters: accelerators, networks and schedulers under load.",
)
out, err = Console(), Console(stderr=True)

SpecFile = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="An experiment (a YAML file).")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="FIELD=VALUE", help="Change a field of the spec, by its path."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that keeps the runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print records for a program to read.")]


def changes(sets: Iterable[str] | None) -> dict[str, Any]:
    """Return the field paths and values of ``--set`` options; raise ClusterSimError for a misspelt one."""
    from clustersim.spec.load import value_of

    found: dict[str, Any] = {}
    for text in sets or ():
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ClusterSimError(f"--set {text!r}: write FIELD=VALUE, for example serving.tensor_parallel=4")
        try:
            found[path.strip()] = value_of(value)
        except SpecError:
            raise ClusterSimError(f"--set {path}: {value!r} is not a YAML value") from None
    return found


def complain(message: str) -> None:
    """Print each line of a message as an error."""
    for line in message.splitlines():
        err.print(f"[red]error[/] {escape(line)}", highlight=False, soft_wrap=True)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn a failure to write *file* into a ClusterSimError."""
    try:
        yield
    except OSError as error:
        raise ClusterSimError(f"{file}: cannot be written: {error.strerror or error}") from None


def note(message: str) -> None:
    """Print a remark that is no result."""
    err.print(f"[dim]{escape(message)}[/]", highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a sentence of the answer: to people on standard output, beside data on standard error."""
    (out if out.is_terminal else err).print(escape(message), highlight=False, soft_wrap=True)


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, title: str = "") -> None:
    """Print rows: a table for people, CSV with full names and digits for programs."""
    names = list(columns or (rows[0] if rows else ()))
    if not out.is_terminal:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[_exact(row.get(name)) for name in names] for row in rows])
        return
    cells = [[short(row.get(name)) for name in names] for row in rows]
    grid = Table(title=title or None, title_justify="left", header_style="bold")
    for j in _columns_that_fit([name.rpartition(".")[2] for name in names], cells):
        number = bool(rows) and isinstance(rows[0].get(names[j]), (int, float))
        grid.add_column(
            names[j].rpartition(".")[2],
            justify="right" if number else "left",
            overflow="fold",
        )
    for row in cells:
        grid.add_row(*(escape(cell) for cell in row[: len(grid.columns)]))
    out.print(grid)


def _columns_that_fit(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> range:
    """Return the leading columns that fit the terminal; long text may fold, so it counts for 30 at most."""
    used = 1
    for j, head in enumerate(heads):
        used += min(30, max([len(head), *(len(row[j]) for row in cells)])) + 3
        if used > out.width and j > 1:
            return range(j)
    return range(len(heads))


def show_json(records: Any) -> None:
    """Print records as JSON; what is not a number is null."""
    sys.stdout.write(json.dumps(_finite(records), indent=2, default=str) + "\n")


def short(value: Any) -> str:
    """Return a value in few characters."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _exact(value: Any) -> Any:
    return f"{value:.12g}" if isinstance(value, float) else value


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
