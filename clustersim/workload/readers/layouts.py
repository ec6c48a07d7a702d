"""The published schemas of request traces: which column holds what, and in which unit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from clustersim.spec.workload import Trace
from clustersim.workload.readers.table import Table, wrong

UNITS: Final[Mapping[str, float]] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "100ns": 1e-7, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Layout:
    """A schema: spellings by meaning, without case, spaces or punctuation; stamps with seconds a unit."""

    name: str
    prompt: tuple[str, ...]
    output: tuple[str, ...]
    arrival: Mapping[str, float] = field(default_factory=dict)
    tenant: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    block_tokens: int = 0
    failures: bool = False
    """An output of zero tokens is a failed request, not a mistake."""
    quantised: bool = False
    """Its stamps are known to be rounded to a coarse step."""


_AZURE: Final = (("contexttokens",), ("generatedtokens",), {"timestamp": 1.0})
LAYOUTS: Final[tuple[Layout, ...]] = (
    Layout("azure-2023", *_AZURE),
    Layout("azure-2024", *_AZURE),
    Layout(
        "burstgpt", ("requesttokens",), ("responsetokens",), {"timestamp": 1.0},
        tenant=("model",), failures=True,
    ),
    Layout(
        "mooncake", ("inputlength",), ("outputlength",), {"timestamp": 1e-3},
        blocks=("hashids",), block_tokens=512, quantised=True,
    ),
    Layout(
        "vidur", ("numprefilltokens",), ("numdecodetokens",), {"arrivedat": 1.0},
    ),
    Layout(
        "sharegpt",
        ("inputtoks", "promptlen", "inputlen", "inputtokens"),
        ("outputtoks", "outputlen", "outputtokens"),
        {"arrivaltimens": 1e-9},
    ),
    Layout(
        "csv", ("prompttokens",), ("outputtokens",),
        {"arrivals": 1.0, "arrivalms": 1e-3, "arrivalus": 1e-6, "arrivalns": 1e-9},
        tenant=("tenant",),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """Where in one file the columns of a layout are; None where there are none."""

    layout: Layout
    prompt: str
    output: str
    arrival: str | None
    arrival_unit_s: float
    tenant: str | None
    blocks: str | None


def find_layout(trace: Trace, table: Table) -> Found:
    """Return the layout of a file, chosen by the spec or by its columns; raise SpecError if none fits."""
    if trace.columns:
        return _chosen(trace, table)
    names = {plain(name): name for name in reversed(table.names)}
    layouts = [layout for layout in LAYOUTS if trace.format in (None, layout.name)]
    for layout in layouts:
        prompt, output = _first(layout.prompt, names), _first(layout.output, names)
        if prompt and output:
            return _found(layout, (prompt, output), names, trace)
    raise wrong(table.file, _misfit(layouts, table, trace))


def plain(name: str) -> str:
    """Return a column's name without case, spaces and punctuation.

    >>> plain("Request tokens"), plain("arrival_s")
    ('requesttokens', 'arrivals')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _first(spellings: Iterable[str], names: Mapping[str, str]) -> str | None:
    return next((names[spelling] for spelling in spellings if spelling in names), None)


def _found(layout: Layout, lengths: tuple[str, str], names: Mapping[str, str], trace: Trace) -> Found:
    spelling = next((s for s in layout.arrival if s in names), None)
    unit_s = UNITS[trace.time_unit] if trace.time_unit else layout.arrival.get(spelling or "", 1.0)
    return Found(
        layout, *lengths, names[spelling] if spelling else None, unit_s,
        _first(layout.tenant, names), _first(layout.blocks, names),
    )  # fmt: skip


def _chosen(trace: Trace, table: Table) -> Found:
    for meaning, name in trace.columns.items():
        if name not in table.names:
            raise wrong(table.file, f"has no column {name!r} for {meaning}; it has {', '.join(table.names)}")
    names = trace.columns
    unit_s = UNITS[trace.time_unit or "s"]
    layout = Layout("csv", (), ())
    return Found(
        layout, names["prompt"], names["output"], names.get("arrival"), unit_s, names.get("tenant"), None
    )


def _misfit(layouts: list[Layout], table: Table, trace: Trace) -> str:
    has = f"it has {', '.join(table.names)}"
    if trace.format is not None:
        missing = ", ".join(f"{' or '.join(names)}" for names in (layouts[0].prompt, layouts[0].output))
        return f"lacks a column that {trace.format} needs: {missing} (in any case and spacing); {has}"
    return (
        f"is of no known format ({', '.join(layout.name for layout in layouts)}); {has}; "
        "name them, as in columns: {arrival: t, prompt: in, output: out}"
    )
