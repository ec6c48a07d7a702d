"""Read a trace of jobs, whatever its schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.workload.jobs.columns import Jobs
from clustersim.workload.jobs.layouts import LAYOUTS, jobs_from
from clustersim.workload.jobs.special import (
    ReadOptions,
    read_gavel,
    read_philly_json,
    read_pollux,
    read_sacct,
    read_swf,
)
from clustersim.workload.jobs.text import open_text, table_of

_SPECIAL: Final[Mapping[str, Callable[[Path, ReadOptions], Jobs]]] = {
    "swf": read_swf,
    "sacct": read_sacct,
    "philly-json": read_philly_json,
    "gavel": read_gavel,
    "pollux": read_pollux,
}
_SUFFIXES: Final = {".swf": "swf", ".json": "philly-json", ".trace": "gavel"}


def formats() -> list[str]:
    """Return the names of the schemas that can be read."""
    return sorted([*(layout.name for layout in LAYOUTS), *_SPECIAL])


def read_jobs(file: Path, format: str | None = None, options: ReadOptions | None = None) -> Jobs:
    """Return the jobs of *file*, in order of submission; the schema is found out if *format* is None.

    Raises SpecError with the line of every mistake, ClusterSimError for a file that is none of these.
    """
    options = options or ReadOptions()
    if format is not None and format not in formats():
        raise UnknownNameError("format of job traces", format, formats())
    found = format or _SUFFIXES.get(Path(file.name.removesuffix(".gz")).suffix)
    if found is not None and found in _SPECIAL:
        return _SPECIAL[found](file, options)
    text = open_text(file)
    first = next((line for line in text.splitlines() if line and not line.startswith("#")), "")
    if found is None and {"JobID", "Submit"} <= set(first.split("|")):
        return read_sacct(file, options)
    names = {name.strip() for name in first.split(",")}
    if found is None and {"application", "num_replicas"} <= names:
        return read_pollux(file, options)
    layout = next((x for x in LAYOUTS if (x.name == found if found else x.known_by <= names)), None)
    if layout is None:
        raise ClusterSimError(
            f"{file}: no known schema has the columns {first[:120]!r}; name one: {', '.join(formats())}"
        )
    table = table_of(file, text, ",", "#", ())
    return jobs_from(table, layout.read(table))
