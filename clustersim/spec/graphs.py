"""Networks that users bring: edge lists, GraphML, node-link JSON, networkx graphs. Reading only.

An edge states ``bandwidth`` and ``latency`` with their units, or ``bandwidth_bytes_per_s`` and ``latency_s``
as plain numbers, or ``link``, the name of a class of links. It runs both ways unless the graph is directed.
A vertex with the attribute ``endpoint`` is an accelerator.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from clustersim.errors import ClusterSimError, FieldError
from clustersim.spec.base import Spec
from clustersim.units import BytesPerSecond, Seconds

Found = tuple[list[dict[str, Any]], list[str]]


class Edge(Spec):
    """A link between two vertices, by its own numbers or by the name of its class."""

    source: str
    target: str
    link: str | None = None
    bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    latency: Seconds | None = None
    tier: str | None = None
    """How it is called in tables; by default its class, else ``link``."""
    one_way: bool = False

    @model_validator(mode="after")
    def _determined(self) -> Self:
        if (self.link is None) == (self.bandwidth is None):
            raise FieldError("bandwidth", "give either a bandwidth or the name of a class of links")
        if self.source == self.target:
            raise FieldError("target", f"{self.source!r} is joined to itself")
        return self


def read_graph(folder: Path, file: Path) -> Found:
    """Read the edges and endpoints of *file*, in *folder* or here; ValueError says what is wrong with it."""
    path = next((p for p in (folder / file, file) if p.is_file()), None)
    if path is None:
        raise FieldError("file", f"no file {str(file)!r}, neither in {folder} nor here")
    readers = {".csv": _read_csv, ".graphml": _read_graphml, ".json": _read_json}
    if path.suffix not in readers:
        raise FieldError("file", f"{file.name}: write a network as {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except (OSError, UnicodeDecodeError, ClusterSimError, KeyError, ValueError) as error:
        raise FieldError("file", f"{file.name} cannot be read: {error}") from None


def from_networkx(graph: Any) -> Found:
    """Return the edges and endpoints of a networkx graph."""
    directed = bool(graph.is_directed())
    edges = [_edge(str(a), str(b), data, directed) for a, b, data in graph.edges(data=True)]
    marked = [str(name) for name, data in graph.nodes(data=True) if data.get("endpoint")]
    return _merged(edges), marked


def _read_csv(path: Path) -> Found:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    missing = [name for name in ("source", "target") if not rows or name not in rows[0]]
    if missing:
        raise ClusterSimError(f"it has no column {missing[0]!r}; the first line must name source and target")
    return [_edge(str(row["source"]), str(row["target"]), row, False) for row in rows], []


def _read_graphml(path: Path) -> Found:
    import networkx as nx

    try:
        return from_networkx(nx.read_graphml(path))
    except Exception as error:
        raise ClusterSimError(f"it is not GraphML: {error}") from None


def from_node_link(data: Any) -> Found:
    """Return the edges and endpoints of node-link data (edges under ``edges`` or, of old, ``links``)."""
    import networkx as nx

    if not isinstance(data, Mapping) or "nodes" not in data or not {"edges", "links"} & data.keys():
        raise FieldError("file", "is not node-link JSON: it needs 'nodes' and 'edges'")
    return from_networkx(nx.node_link_graph(dict(data), edges="edges" if "edges" in data else "links"))


def _read_json(path: Path) -> Found:
    return from_node_link(json.loads(path.read_text(encoding="utf-8")))


def _edge(source: str, target: str, data: Mapping[str, Any], one_way: bool) -> dict[str, Any]:
    """Return an edge as plain data: SI numbers where the graph has them, else the text as it is."""
    kept = {name: data[name] for name in ("link", "bandwidth", "latency", "tier") if data.get(name)}
    for name, number in (("bandwidth", "bandwidth_bytes_per_s"), ("latency", "latency_s")):
        if data.get(number) not in (None, ""):
            unit = "B/s" if name == "bandwidth" else "s"
            kept[name] = f"{float(data[number])!r} {unit}"
    return {"source": source, "target": target, "one_way": one_way, **kept}


def _merged(edges: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the two directions of a directed graph where they are alike."""
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for edge in edges:
        rest = tuple(sorted((k, v) for k, v in edge.items() if k not in ("source", "target", "one_way")))
        back = (edge["target"], edge["source"], rest)
        if edge["one_way"] and back in kept and kept[back]["one_way"]:
            kept[back]["one_way"] = False
            continue
        key: tuple[Any, ...] = (edge["source"], edge["target"], rest)
        while key in kept:
            key = (*key, "again")
        kept[key] = edge
    return list(kept.values())
