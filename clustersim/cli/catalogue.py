"""list and show: what there is to simulate with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clustersim.cli.base import app, out, say, show
from clustersim.errors import ClusterSimError, UnknownNameError

if TYPE_CHECKING:
    from clustersim.policies import Policy

POLICY_SORTS = ("batching", "router", "admission", "arrival")


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
    columns = ["kind", "name", "summary"] if out.is_terminal else None
    show(rows, columns if kind is None or not out.is_terminal else ["name", "summary", "source"])


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

    rows = []
    for base in _bases():
        for name in names(base):
            doc = (find(base, name).__doc__ or "").splitlines()[0]
            rows.append({"kind": base.sort, "name": name, "summary": doc, "source": ""})
    return rows


def _show_policy(name: str) -> bool:
    """Print the fields of a policy of any sort; False if there is none of that name."""
    from clustersim.policies.registry import find, names

    wrong: list[ClusterSimError] = []
    for base in _bases():
        known = ".py:" in name or name in names(base)
        if not known:
            continue
        try:
            policy: type[Policy] = find(base, name)
        except ClusterSimError as error:
            wrong.append(error)
            continue
        say(f"{base.sort} {name}: {(policy.__doc__ or '').strip().splitlines()[0]}")
        fields = [
            {"field": key, "default": str(info.get_default(call_default_factory=True)),
             "meaning": info.description or ""}
            for key, info in policy.model_fields.items() if key != "kind"
        ]  # fmt: skip
        show(fields, ["field", "default", "meaning"])
        return True
    if wrong:
        raise wrong[0]
    return False


def _bases() -> list[type[Policy]]:
    from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Router

    return [BatchingPolicy, Router, Admission, ArrivalShape]


def _show_metrics() -> None:
    from clustersim.record.summary import METRICS

    show([{"metric": m.name, "unit": m.unit, "better": m.better, "meaning": m.doc} for m in METRICS])
