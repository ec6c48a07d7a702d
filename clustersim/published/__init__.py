"""The published tables that we claim, run again on the measured files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clustersim.published.tables import Result


def rerun(only: Iterable[str] | None = None, data: Path | None = None) -> tuple[list[Result], list[str]]:
    """Run all tables again, or *only* some by id; return results, and a line for each that lacks its files.

    *data* is the folder of the measured files; see ``clustersim.published.tables.find_data``.
    """
    from clustersim.errors import ClusterSimError
    from clustersim.published import tables

    names = list(only) if only else list(tables.TABLES)
    computed = [(name, tables.table(name)) for name in names]
    results: list[Result] = []
    missing: list[str] = []
    for name, compute in computed:
        try:
            results += compute(tables.find_data(data))
        except ClusterSimError as error:
            missing.append(f"{name}: {error}")
    return sorted(results, key=lambda result: (names.index(result.id), result.split)), missing
