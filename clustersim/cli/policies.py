"""check and new: schedulers of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clustersim.cli.base import app, note, say
from clustersim.errors import UnknownNameError

SORTS = ("batching", "router", "admission", "arrival")


@app.command()
def check(
    policy: Annotated[str, typer.Argument(help="A policy: file.py:Class, or an installed name.")],
    sort: Annotated[str | None, typer.Option(help="batching, router, admission or arrival.")] = None,
    scenes: Annotated[int, typer.Option(min=1, help="How many random scenes.")] = 60,
) -> None:
    """Hold a policy to the rules that every policy keeps; name those it breaks."""
    from clustersim.check import check as findings_of
    from clustersim.check import report

    chosen = _find(policy, sort)
    findings = findings_of(chosen, scenes)
    say(report(findings, scenes))
    raise typer.Exit(int(bool(findings)))


@app.command()
def new(
    sort: Annotated[str, typer.Argument(help="batching, router, admission or arrival.")],
    file: Annotated[Path, typer.Argument(help="The Python file to write.")],
) -> None:
    """Write a policy of your own to start from, and its test."""
    from clustersim.check.template import write

    if sort not in SORTS:
        raise UnknownNameError("sort of policy", sort, SORTS)
    written = write(sort, file)
    say(f"wrote {' and '.join(str(path) for path in written)}")
    note(f"check it: clustersim check {written[0]}:CLASS; run it: -s serving.{sort}={written[0]}:CLASS")


def _find(name: str, sort: str | None) -> object:
    """Return the policy *name* with its default fields, of the first sort that knows it."""
    from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Router
    from clustersim.policies.registry import find

    bases = {base.sort: base for base in (BatchingPolicy, Router, Admission, ArrivalShape)}
    if sort is not None and sort not in bases:
        raise UnknownNameError("sort of policy", sort, bases)
    errors = []
    for base in [bases[sort]] if sort else bases.values():
        try:
            return find(base, name)(kind=name)
        except UnknownNameError as error:
            errors.append(error)
    raise errors[0]
