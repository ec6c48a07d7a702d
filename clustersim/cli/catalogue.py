"""list and show: what there is to simulate with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clustersim.cli.base import app, out, say, show
from clustersim.cli.policies import bases, find_any
from clustersim.errors import UnknownNameError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from clustersim.policies import Policy


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="accelerators, nodes, models, stacks, serving, traces, policies ...")
    ] = None,
) -> None:
    """List what the catalogue holds: names, one line each, and where the numbers come from."""
    from clustersim.spec.catalogue import FOLDERS, catalogue

    if kind is not None and kind not in (*FOLDERS, "policies"):
        raise UnknownNameError("kind", kind, [*FOLDERS, "policies"])
    entries = [] if kind == "policies" else catalogue(kind)
    rows = [{"kind": e.kind, "name": e.name, "summary": e.summary, "source": e.source} for e in entries]
    if kind in (None, "policies"):
        rows += _policies()
    columns = ["kind", "name", "summary", "source"]
    if out.is_terminal:
        columns = columns[:3] if kind is None else columns[1:]
    show(rows, columns)


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="The name of a card or policy, 'metrics', or a table.")],
) -> None:
    """Show a card with the source of each number, a policy with its fields, or what results mean."""
    from clustersim.record.tables import TABLES

    if name == "metrics":
        _show_metrics()
    elif name in TABLES:
        rows = [{"column": c.name, "type": c.dtype, "meaning": c.doc} for c in TABLES[name].columns]
        say(f"table {name}: a row is {TABLES[name].row}")
        show(rows)
    elif not _show_policy(name):
        from clustersim.spec.catalogue import show as text_of

        typer.echo(text_of(name), nl=False)


def _policies() -> list[dict[str, str]]:
    from clustersim.policies.registry import find, names

    return [
        {"kind": base.sort, "name": name, "summary": _first_line(find(base, name)), "source": ""}
        for base in bases()
        for name in names(base)
    ]


def _show_policy(name: str) -> bool:
    """Print the fields of a policy of any sort; False if there is none of that name."""
    from clustersim.policies.registry import names

    if ".py:" not in name and not any(name in names(base) for base in bases()):
        return False
    policy = find_any(name)
    say(f"{policy.sort} {name}: {_first_line(policy)}")
    fields = [
        {"field": key, "default": _default(info), "meaning": info.description or ""}
        for key, info in policy.model_fields.items()
        if key != "kind"
    ]
    show(fields, ["field", "default", "meaning"])
    return True


def _first_line(policy: type[Policy]) -> str:
    return (policy.__doc__ or "").strip().partition("\n")[0]


def _default(info: FieldInfo) -> str:
    return "(required)" if info.is_required() else str(info.get_default(call_default_factory=True))


def _show_metrics() -> None:
    from clustersim.record.summary import METRICS

    show([{"metric": m.name, "unit": m.unit, "better": m.better, "meaning": m.doc} for m in METRICS])
