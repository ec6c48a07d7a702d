"""check and new: schedulers of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clustersim.cli.base import Sets, app, changes, note, say
from clustersim.errors import ClusterSimError, UnknownNameError

if TYPE_CHECKING:
    from clustersim.policies import Policy


@app.command()
def check(
    policy: Annotated[str, typer.Argument(help="A policy: file.py:Class, or an installed name.")],
    sort: Annotated[str | None, typer.Option(help="batching, router, admission or arrival.")] = None,
    scenes: Annotated[int, typer.Option(min=1, help="How many random scenes.")] = 60,
    sets: Sets = None,
) -> None:
    """Hold a policy to the rules that every policy keeps; name those it breaks."""
    from clustersim.check import check as findings_of
    from clustersim.check import report

    findings = findings_of(_made(policy, sort, changes(sets)), scenes)
    say(report(findings, scenes))
    raise typer.Exit(int(bool(findings)))


@app.command()
def new(
    sort: Annotated[str, typer.Argument(help="batching, router, admission or arrival.")],
    file: Annotated[Path, typer.Argument(help="The Python file to write.")],
) -> None:
    """Write a policy of your own to start from, and its test."""
    from clustersim.check.template import write

    bases(sort)
    written = write(sort, file)
    say(f"wrote {' and '.join(str(path) for path in written)}")
    name = f"{written[0]}:{_first_class(written[0])}"
    field = "workload.arrivals.shape" if sort == "arrival" else f"serving.{sort}"
    note(f"check it: clustersim check {name}; run it: -s {field}={name}")


def _first_class(file: Path) -> str:
    import ast

    tree = ast.parse(file.read_text(encoding="utf-8"))
    return next(node.name for node in tree.body if isinstance(node, ast.ClassDef))


def find_any(name: str, sort: str | None = None) -> type[Policy]:
    """Return the class that *name* leads to, of the first sort that knows it; raise ClusterSimError."""
    from clustersim.policies.registry import OtherSortError, find

    errors: list[ClusterSimError] = []
    for base in bases(sort):
        try:
            return find(base, name)
        except ClusterSimError as error:
            errors.append(error)
    raise next((error for error in errors if not isinstance(error, OtherSortError)), errors[0])


def bases(sort: str | None = None) -> list[type[Policy]]:
    """Return the base class of every sort of policy, or of one; raise UnknownNameError if there is none."""
    from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Router

    known: dict[str, type[Policy]] = {b.sort: b for b in (BatchingPolicy, Router, Admission, ArrivalShape)}
    if sort is not None and sort not in known:
        raise UnknownNameError("sort of policy", sort, known)
    return list(known.values()) if sort is None else [known[sort]]


def _made(name: str, sort: str | None, fields: dict[str, Any]) -> Policy:
    """Return the policy *name* with *fields*; raise ClusterSimError for fields it lacks or has not."""
    from pydantic import ValidationError

    found = find_any(name, sort)
    try:
        return found.model_validate({"kind": name, **fields})
    except ValidationError as error:
        raise ClusterSimError("\n".join(_told(name, problem) for problem in error.errors())) from None


def _told(name: str, problem: Any) -> str:
    """Say in one line what is wrong with a field of the policy *name*, and how to set it."""
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"{name}: {field}: is required; give it with --set {field}=VALUE"
    return f"{name}: {field}: {problem['msg']}"
