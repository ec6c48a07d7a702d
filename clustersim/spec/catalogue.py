"""What the catalogue holds: one line a card, and the text of a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.spec.base import card_data, card_files

FOLDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accelerators": "topologies/accelerators",
        "nodes": "topologies/nodes",
        "fabrics": "topologies/fabrics",
        "efficiency": "topologies/efficiency",
        "stacks": "topologies/stacks",
        "training-stacks": "topologies/training-stacks",
        "transports": "topologies/transports",
        "dispatch": "topologies/dispatch",
        "models": "workloads/models",
        "serving": "workloads/serving",
        "training": "workloads/training",
        "jobs": "workloads/jobs",
        "traces": "workloads/traces",
    }
)
"""Where the cards of each kind lie; a folder that is not there holds none."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One card: its kind, its name, one line about it, and where its numbers come from."""

    kind: str
    name: str
    summary: str
    source: str


def catalogue(kind: str | None = None) -> list[Entry]:
    """Return every card, or those of one *kind*; raise UnknownNameError for a kind that there is not."""
    if kind is not None and kind not in FOLDERS:
        raise UnknownNameError("kind of card", kind, FOLDERS)
    return [entry for each in FOLDERS if kind in (None, each) for entry in _entries(each)]


def show(name: str) -> str:
    """Return the text of the card *name*, which may be written ``kind/name`` where two kinds share it.

    Raises UnknownNameError if there is none.
    """
    kind, _, short = name.rpartition("/")
    for each in [kind] if kind in FOLDERS else FOLDERS:
        file = _files(each).get(short if kind else name)
        if file is not None:
            return file.read_text(encoding="utf-8")
    raise UnknownNameError("card", name, (known for each in FOLDERS for known in _files(each)))


def _files(kind: str) -> Mapping[str, Path]:
    try:
        return card_files(FOLDERS[kind])
    except ClusterSimError:
        return {}


def _entries(kind: str) -> Iterator[Entry]:
    for name in _files(kind):
        data = card_data(FOLDERS[kind], name)
        data = data if isinstance(data, dict) else {}
        summary = _SUMMARIES.get(kind, _plain)(data)
        if summary in ("", name):
            summary = _first_comment(_files(kind)[name]) or summary
        yield Entry(kind, name, summary, _source(data))


def _source(data: Mapping[str, Any]) -> str:
    """Return the first source of a card, its date and how sure it is."""
    sources = data.get("sources")
    first = next(iter(sources.values()), None) if isinstance(sources, dict) else data.get("source")
    if isinstance(first, dict):
        return f"{first.get('source', '')} ({first.get('date', '')}, {first.get('kind', '')})"
    return str(first or "")


def _plain(data: Mapping[str, Any]) -> str:
    keys = ("summary", "title", "description", "note", "name")
    return str(next((data[key] for key in keys if data.get(key)), "")).strip().split("\n")[0]


def _first_comment(file: Path) -> str:
    """Return what the first line of a card says, if it is a comment."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").rstrip(".") if first.startswith("#") else ""


def _accelerator(data: Mapping[str, Any]) -> str:
    peaks = data["compute"]
    fastest = next(name for name in ("bf16", "fp16", "fp32", "int8") if name in peaks)
    vendor, name = data["vendor"], data["name"]
    return (
        f"{vendor} {name.removeprefix(vendor).strip()}, {data['year']}: {peaks[fastest]} {fastest}, "
        f"{data['memory']} at {data['memory_bandwidth']}, {data['power']}"
    )


def _node(data: Mapping[str, Any]) -> str:
    link = data["link"]
    return f"{data['name']}: {data['accelerators']} x {data['accelerator']}, {link['kind']}, {data['power']}"


def _model(data: Mapping[str, Any]) -> str:
    published = data.get("published", {})
    total, active = published.get("parameters"), published.get("active_parameters")
    size = f"{float(total) / 1e9:.4g} billion parameters" if total else "size unpublished"
    if active:
        size += f", {float(active) / 1e9:.3g} active"
    return f"{data['name']}: {size}, {data['layers']} layers, context {data['max_context']}"


_SUMMARIES: Final = MappingProxyType({"accelerators": _accelerator, "nodes": _node, "models": _model})
