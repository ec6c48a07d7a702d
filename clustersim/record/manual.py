"""The manual page of results, made from the schema: docs/results.md is its output. Pure text, no I/O.

``python -m clustersim.record.manual > docs/results.md`` writes it; a test holds the two together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from clustersim.record.summary import METRICS
from clustersim.record.tables import TABLES

MANIFEST: Final[Mapping[str, str]] = MappingProxyType(
    {
        "name": "The experiment's name.",
        "status": "`ok`; a run that failed leaves no folder, only its row in the index.",
        "experiment": "The whole spec as it was run, every default filled in; numbers in SI units.",
        "point": "The swept fields of this run and their values.",
        "seed": "Seed of all random draws.",
        "replication": "Which repetition; each draws anew.",
        "slo": "The limits of the SLO in seconds; null where nothing is promised.",
        "replicas": "Replicas, or their pipeline lanes, as the column `replica` counts them.",
        "accelerators": "Accelerators that the service uses.",
        "accelerator": "Which.",
        "idle_w": "Watts that a replica's accelerators draw while no pass runs.",
        "block_tokens": "Tokens in a block of key-value cache.",
        "kv_blocks_total": "Blocks of key-value cache of one replica.",
        "passes": "Forward passes that were simulated, all replicas together.",
        "events": "Requests plus stretches of passes: what the simulation went through one by one.",
        "simulated_s": "When the last pass ended, on the simulated clock.",
        "price_per_hour": "Dollars an hour of the accelerators in use; null where the card knows no price.",
        "warnings": "What makes the result weaker than it looks.",
        "notes": "What was done to the load: rows dropped, stamps spread, answers cut.",
        "provenance": "Where the curve of each class of kernels comes from, and its error.",
        "loop_cpu_s": "CPU seconds of the simulation alone.",
        "wall_s": "Seconds of the whole run: plan and simulation.",
        "cpu_s": "CPU seconds of the same.",
        "versions": "Of clustersim, Python and the packages that numbers depend on.",
        "commit": "Of a checkout, with `+changes` where files differ from it; null if installed.",
        "identity": "Digest of spec, code, policies and data files, by which a run is found again.",
        "summary": "The metrics above.",
    }
)
"""Every key of a manifest, and what it holds."""

INDEX: Final[Mapping[str, str]] = MappingProxyType(
    {
        "*swept fields*": "One column each, by the path of the field.",
        "replication": "Which repetition.",
        "status": "`ok` or `failed`.",
        "stage": "Where a run failed: `spec`, `run` or `worker`; if by a defect, it says so.",
        "message": "Why; else empty.",
        "folder": "The run's folder beside the index; empty if it failed.",
        "*metrics*": "One column each, as above; NaN if the run failed.",
    }
)
"""The columns of a sweep's index."""

_HEAD: Final = """\
# Results, column by column

<!-- made by clustersim/record/manual.py from the schema; edit that -->

A run is a folder, `runs/NAME/POINT_rREPLICATION-DIGEST/`: a `manifest.json` and a Parquet file for each
table; with `record.iterations: off` there are no `iterations` and `token_gaps`. It is written beside its
place and moved there whole, so a folder without `.part` is complete. The digest covers spec, code, policies
and data files: what has not changed is not run again. The folder of a sweep, or of replications, has an
`index.parquet` beside its runs, one row a run in the sweep's order.

Names end in their unit: `_s` seconds, `_w` watts, `_j` joules, `_tokens`; a `_share` is between 0 and 1.
Times count from the start of the simulation. Absent numbers are NaN. Each Parquet file carries these texts
in its schema. In Python, `clustersim.Run(folder)` and `clustersim.Sweep(folder)` read them as data frames;
`clustersim show metrics` and `clustersim show requests` print the tables below.
"""


def results_page() -> str:
    """Return the manual page of results as Markdown, ending in a newline."""
    return "\n".join([_HEAD, *_tables(), *_summary(), *_files()])


def _tables() -> Iterator[str]:
    for table in TABLES.values():
        yield f"## Table `{table.name}`\n\nA row is {table.row}.\n"
        yield _grid(("column", "type", "meaning"), ((f"`{c.name}`", c.dtype, c.doc) for c in table.columns))


def _summary() -> Iterator[str]:
    yield "## The summary\n\nThe key `summary` of a manifest, and columns of an index.\n"
    rows = ((f"`{m.name}`", m.unit, m.better, m.doc) for m in METRICS)
    yield _grid(("metric", "unit", "better", "meaning"), rows)


def _files() -> Iterator[str]:
    yield "## The index of a sweep\n"
    yield _grid(("column", "meaning"), ((_code(name), doc) for name, doc in INDEX.items()))
    yield "## The manifest\n"
    yield _grid(("key", "meaning"), ((_code(name), doc) for name, doc in MANIFEST.items()))


def _code(name: str) -> str:
    return name if name.startswith("*") else f"`{name}`"


def _grid(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table, followed by an empty line."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(results_page())
