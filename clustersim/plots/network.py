"""What the interconnect looks like, and which links are hot when. No I/O.

Vertices stand in tiers, never in a spring layout. Layers too wide to draw are collapsed: consecutive vertices
are equal in all regular networks, and one mark stands for so many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.network.topology import Topology
from clustersim.plots import bins as exact
from clustersim.plots.theme import BLUE, GREY, HEIGHT, INK, PALETTE, blank, faded, nothing, on_time

MOST_MARKS: Final = 48
"""About the most vertices of a layer that can be told apart."""
MOST_TOLD: Final = 2000
"""Edges of one sort up to which each can be asked about."""
HEAT: Final = [[0.0, "rgba(0, 114, 178, 0.06)"], [0.5, "#56b4e9"], [0.8, "#e69f00"], [1.0, "#d55e00"]]
_CLASSES: Final = 5

Array = np.ndarray[Any, Any]


def topology(network: Topology, used_share: Array | None = None, most: int = MOST_MARKS) -> go.Figure:
    """Draw a network tier by tier; with *used_share* of each link and bundle, coloured by the busiest."""
    figure = blank("", "").update_layout(height=int(1.4 * HEIGHT), hovermode="closest")
    marks = _marks(network, most)
    edges = _edges(network, marks, used_share)
    if used_share is None:
        _draw_tiers(figure, network, marks, edges)
    else:
        _draw_heat(figure, marks, edges)
    for number, layer in enumerate(network.layers):
        _draw_layer(figure, marks, number, layer.name)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(showgrid=False, zeroline=False, showticklabels=len(network.layers) > 1)
    return figure.update_yaxes(**_labels(network, marks))


def _labels(network: Topology, marks: _Marks) -> dict[str, Any]:
    """Return the names of the layers as the labels of their rows."""
    rows: dict[float, list[str]] = {}
    for number, layer in enumerate(network.layers):
        rows.setdefault(float(marks.y[marks.layer == number][0]), []).append(
            f"{layer.count:,} x {layer.name}"
        )
    return {"tickvals": list(rows), "ticktext": ["<br>".join(names) for names in rows.values()]}


@dataclass(frozen=True, slots=True, eq=False)
class _Marks:
    """Where each mark stands, the mark of each vertex, and how many vertices a mark is."""

    x: Array
    y: Array
    layer: Array
    of_vertex: Array
    size: Array


def _marks(network: Topology, most: int) -> _Marks:
    """Place the marks: a row for each height, layers of one height side by side."""
    if len(network.layers) == 1 and network.layers[0].count > 1:
        x, y = _plane(network)
        return _Marks(x, y, np.zeros(len(x), np.int64), np.arange(len(x)), np.ones(len(x)))
    heights = _heights(network)
    of_vertex, parts, first = np.zeros(network.vertices, np.int64), [], 0
    for number, layer in enumerate(network.layers):
        count, here = _collapsed(layer.count, most), np.arange(layer.count)
        of_vertex[layer.first + here] = first + here // (layer.count // count)
        place = heights[:number].count(heights[number])
        x = (place + (np.arange(count) + 0.5) / count) / heights.count(heights[number])
        parts.append((x, np.full(count, heights[number]), np.full(count, number)))
        first += count
    x, y, layer_of = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _Marks(x, y, layer_of, of_vertex, np.bincount(of_vertex, minlength=first))


def _collapsed(count: int, most: int) -> int:
    """Return into how many equal groups a layer is drawn: the most that divide it and can be told apart."""
    return next(n for n in range(min(count, most), 0, -1) if count % n == 0)


def _heights(network: Topology) -> list[float]:
    """Return how high each layer stands: as many links above the endpoints as it is away from them."""
    heights = np.full(network.vertices, np.inf)
    heights[: network.endpoints] = 0.0
    for step in range(len(network.layers)):
        reached = heights[network.source] == step
        heights[network.target[reached]] = np.minimum(heights[network.target[reached]], step + 1)
    found = []
    for layer in network.layers:
        height = float(heights[layer.first : layer.first + layer.count].min())
        found.append(-1.0 if layer.name.endswith("node switch") else height)
    top = max(found) + 1.0
    return [top if layer.name == "gateway" else h for layer, h in zip(network.layers, found, strict=True)]


def _plane(network: Topology) -> tuple[Array, Array]:
    """Return places for endpoints without switches: their grid seen from the side, else a circle."""
    count = network.layers[0].count
    dimensions = getattr(network.wiring, "dimensions", None)
    if dimensions is None:
        angle = 2 * np.pi * np.arange(count) / count
        return np.cos(angle), np.sin(angle)
    at = np.unravel_index(np.arange(count), dimensions)
    axes = np.array([[1.0, 0.0], [0.0, 1.0], [0.28, 0.21], [-0.09, 0.13], [0.04, 0.02], [0.02, -0.05]])
    spread = sum(np.outer(place, axis) for place, axis in zip(at, axes, strict=False))
    return np.asarray(spread)[:, 0], np.asarray(spread)[:, 1]


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """Pairs of marks that are joined: by which tier, how many links, what capacity, how busy."""

    start: Array
    end: Array
    tier: Array
    links: Array
    capacity: Array
    share: Array


def _edges(network: Topology, marks: _Marks, used_share: Array | None) -> _Edges:
    """Join the links between the same two marks, both directions together."""
    ends = np.sort(marks.of_vertex[np.stack([network.source, network.target])], axis=0)
    links = np.arange(network.links)
    keys = np.column_stack([ends.T, network.tier[links]])
    pairs, place = np.unique(keys, axis=0, return_inverse=True)
    place = place.reshape(-1)
    share = np.zeros(len(pairs))
    if used_share is not None:
        np.maximum.at(share, place, _of_links(network, np.asarray(used_share)))
    capacity = np.bincount(place, weights=network.capacity_bytes_per_s[links])
    start, end, tier = pairs.T
    return _Edges(start, end, tier, np.bincount(place) / 2, capacity / 2, share)


def _of_links(network: Topology, used_share: Array) -> Array:
    """Return each link's share; where bundles are used, those of its tier stand for it."""
    share = used_share[: network.links].astype(np.float64)
    for tier in np.unique(network.tier[network.links :]).tolist():
        bundles = np.flatnonzero(network.tier[network.links :] == tier) + network.links
        of_tier = network.tier[: network.links] == tier
        share[of_tier] = np.maximum(share[of_tier], used_share[bundles].max())
    return share


def _draw_tiers(figure: go.Figure, network: Topology, marks: _Marks, edges: _Edges) -> None:
    for number, name in enumerate(network.tiers):
        rows = np.flatnonzero(edges.tier == number)
        if len(rows):
            color = PALETTE[number % len(PALETTE)]
            links = edges.links[rows].sum()
            _lines(figure, marks, edges, rows, (f"{name} ({links:,.0f} links)", color))


def _draw_heat(figure: go.Figure, marks: _Marks, edges: _Edges) -> None:
    place = np.minimum((edges.share * _CLASSES).astype(int), _CLASSES - 1)
    colors = [faded(GREY, 0.35), "#56b4e9", BLUE, "#e69f00", "#d55e00"]
    for number in range(_CLASSES):
        rows = np.flatnonzero(place == number)
        if len(rows):
            name = f"{number / _CLASSES:.0%} to {(number + 1) / _CLASSES:.0%} used"
            _lines(figure, marks, edges, rows, (name, colors[number]))


def _lines(figure: go.Figure, marks: _Marks, edges: _Edges, rows: Array, look: tuple[str, str]) -> None:
    """Draw some edges as one trace of separate curves, and a point in the middle of each that tells of it."""
    name, color = look
    x, y = _curves(marks, edges.start[rows], edges.end[rows])
    line = {"width": 1.0 if len(rows) > 200 else 1.6, "color": color}
    gap = np.full((len(rows), 1), np.nan)
    xs, ys = (np.hstack([at, gap]).ravel() for at in (x, y))
    figure.add_scatter(x=xs, y=ys, mode="lines", name=name, line=line, opacity=0.6, hoverinfo="skip")
    if len(rows) <= MOST_TOLD:
        told = np.column_stack([edges.links[rows], edges.capacity[rows] / 1e9, edges.share[rows]])
        middle = x.shape[1] // 2
        figure.add_scatter(
            x=(x[:, middle] + x[:, -1 - middle]) / 2,
            y=(y[:, middle] + y[:, -1 - middle]) / 2,
            mode="markers",
            marker={"size": 6, "opacity": 0},
            customdata=told,
            showlegend=False,
            hovertemplate=f"{name}<br>%{{customdata[0]:,.4g}} links, %{{customdata[1]:,.4g}} GB/s each way, "
            "busiest %{customdata[2]:.0%}<extra></extra>",
        )


def _curves(marks: _Marks, a: Array, b: Array) -> tuple[Array, Array]:
    """Return points along each edge: straight between rows, an arch within one."""
    straight = marks.y[a] != marks.y[b]
    if straight.all() or len(np.unique(marks.layer)) == 1:
        return np.column_stack([marks.x[a], marks.x[b]]), np.column_stack([marks.y[a], marks.y[b]])
    along = np.linspace(0.0, 1.0, 9)
    x = marks.x[a][:, None] + np.outer(marks.x[b] - marks.x[a], along)
    y = marks.y[a][:, None] + np.outer(marks.y[b] - marks.y[a], along)
    height = np.where(straight, 0.0, 0.9 * np.abs(marks.x[b] - marks.x[a]))
    return x, y + np.outer(height, 4 * along * (1 - along))


def _draw_layer(figure: go.Figure, marks: _Marks, number: int, name: str) -> None:
    here = marks.layer == number
    each = int(marks.size[here][0])
    size, symbol = 9 if here.sum() <= 200 else 4, "circle" if number == 0 else "square"
    hover = f"{each:,} x {name}" if each > 1 else f"{name} %{{pointNumber}}"
    figure.add_scatter(
        x=marks.x[here],
        y=marks.y[here],
        mode="markers",
        name=f"{name}, {each:,} a mark" if each > 1 else name,
        marker={"size": size, "color": INK, "symbol": symbol},
        hovertemplate=f"{hover}<extra></extra>",
    )


def used_at(links: pd.DataFrame, t_s: float, resources: int) -> Array:
    """Return how much of each link and bundle is used at a time, for colouring the view of a topology."""
    here = links[(links["start_s"] <= t_s) & (links["start_s"] + links["duration_s"] > t_s)]
    share = np.zeros(resources)
    share[here["link"].to_numpy()] = here["utilization_share"].to_numpy()
    return share


def link_heatmap(links: pd.DataFrame, most: int = 60, bins: int = 200) -> go.Figure:
    """Draw how much of each link is used over time: the *most* busiest, tier by tier, means over bins."""
    figure = blank("time (s)", "").update_layout(showlegend=False)
    if not len(links):
        return nothing(figure, "no links were recorded")
    end_s = (links["start_s"] + links["duration_s"]).max()
    bounds_s = exact.edges(0.0, float(end_s), bins)
    chosen = _busiest(links, most)
    rows = [_used(links[links["link"] == link], bounds_s) for link in chosen.index]
    figure.add_heatmap(
        x=(bounds_s[:-1] + bounds_s[1:]) / 2,
        y=[f"{tier}: {name}" for tier, name in zip(chosen["tier"], chosen["name"], strict=True)],
        z=np.array(rows),
        zmin=0.0,
        zmax=1.0,
        colorscale=HEAT,
        colorbar={"tickformat": ".0%", "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{y}<br>%{x:.4g} s: %{z:.1%}<extra></extra>",
    )
    figure.update_layout(height=160 + 14 * len(rows))
    figure.update_yaxes(autorange="reversed", tickfont={"size": 10})
    return on_time(figure, bounds_s[0], bounds_s[-1]).update_layout(hovermode="closest")


def _busiest(links: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the links with the highest mean use, by tier and number."""
    busy_s = links["utilization_share"] * links["duration_s"]
    found = (
        links.assign(busy_s=busy_s)
        .groupby("link")
        .agg(tier=("tier", "first"), name=("name", "first"), busy_s=("busy_s", "sum"))
    )
    return found.nlargest(most, "busy_s").sort_values(["tier", "link"], kind="stable")


def _used(rows: pd.DataFrame, bounds_s: Array) -> Array:
    """Return the mean use of one link in each bin."""
    columns = (rows[name].to_numpy() for name in ("start_s", "duration_s", "utilization_share"))
    return exact.level_mean(bounds_s, *columns)
