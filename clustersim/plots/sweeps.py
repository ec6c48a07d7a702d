"""What the points of a sweep trade for one another. Functions of the sweep's index; no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots.theme import INK, SPREAD, blank, colors, nothing, scale
from clustersim.record.summary import BY_NAME, title

SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hexagon")


def pareto(
    index: pd.DataFrame, x: str, y: str, color: str | None = None, differs: Sequence[str] = ()
) -> go.Figure:
    """Draw a point for each row, y against x, and the front of those that no other beats in both.

    Args:
        index: One row a point.
        x: The column of the horizontal axis.
        y: The column of the vertical axis.
        color: The column that colours and names the points.
        differs: The columns to show when the mouse is on a point: what differs between them.
    """
    figure = blank(title(x), title(y))
    rows = index.dropna(subset=[x, y])
    if not len(rows):
        return nothing(figure, "no point has both numbers")
    _front_line(figure, front(rows, x, y), x, y)
    shown = [name for name in dict.fromkeys([*([color] if color else []), *differs]) if name in rows]
    for name, group, look in _groups(rows, color):
        _points(figure, group, (x, y), (name, {"size": 10} | look, shown))
    for axis, name in (("x", x), ("y", y)):
        scale(axis, figure, _is_wide(rows[name]))
    return figure


def _front_line(figure: go.Figure, best: pd.DataFrame, x: str, y: str) -> None:
    line = {"color": INK, "width": 1.5, "dash": "dot"}
    figure.add_scatter(x=best[x], y=best[y], mode="lines", name="best of both", line=line, hoverinfo="skip")


def _groups(rows: pd.DataFrame, color: str | None) -> Iterator[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """Yield the rows of each value of *color*, with its name, colour and symbol."""
    named = rows[color].astype(str) if color else pd.Series("points", index=rows.index)
    for place, (name, shade) in enumerate(colors(named).items()):
        yield name, rows[named == name], {"color": shade, "symbol": SYMBOLS[place % len(SYMBOLS)]}


def _is_wide(values: pd.Series) -> bool:
    return bool(values.min() > 0 and values.max() > SPREAD * values.min())


def _points(
    figure: go.Figure,
    rows: pd.DataFrame,
    axes: tuple[str, str],
    look: tuple[str, dict[str, object], list[str]],
) -> None:
    name, marker, shown = look
    words = [
        "<br>".join(f"{column}: {value}" for column, value in zip(shown, row, strict=True))
        for row in rows[shown].itertuples(index=False)
    ]
    figure.add_scatter(
        x=rows[axes[0]],
        y=rows[axes[1]],
        mode="markers",
        name=name,
        marker=marker | {"line": {"width": 0}},
        customdata=words,
        hovertemplate=f"{title(axes[1])}: %{{y:.4g}}<br>{title(axes[0])}: %{{x:.4g}}<br>%{{customdata}}"
        "<extra></extra>",
    )


def front(index: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Return the rows that no other row beats in *x* and *y* at once, in order of *x*."""
    good_x, good_y = (index[name].to_numpy() * _sign(name) for name in (x, y))
    order = np.lexsort((-good_y, -good_x))
    best = np.maximum.accumulate(good_y[order])
    kept = order[np.concatenate([[True], best[1:] > best[:-1]])]
    best_rows: pd.DataFrame = index.iloc[kept].sort_values(x)
    return best_rows


def _sign(name: str) -> float:
    """Return 1 where more of *name* is better, -1 where less is: so says the table of metrics."""
    if name in BY_NAME and BY_NAME[name].better:
        return 1.0 if BY_NAME[name].better == "higher" else -1.0
    return -1.0 if name.endswith(("_s", "_j", "_w")) and not name.endswith("per_s") else 1.0


def slo_curve(
    index: pd.DataFrame, x: str = "request_rate_per_s", color: str | None = None, target: float = 0.9
) -> go.Figure:
    """Draw the share of requests within the SLO against *x*, a line for each value of *color*.

    Points of equal *x* and *color* (replications) are drawn as their mean, with their range.
    """
    unit = " (requests/s)" if x.endswith("rate") else ""
    figure = blank(title(x) + unit, "requests within the SLO")
    rows = index.dropna(subset=["slo_attainment_share", x])
    if not len(rows):
        return nothing(figure, "the experiment has no SLO")
    for name, group, look in _groups(rows, color):
        shares = group.groupby(x)["slo_attainment_share"]
        mean = shares.mean()
        figure.add_scatter(
            x=mean.index,
            y=mean,
            mode="lines+markers",
            name=name,
            showlegend=color is not None,
            marker={"size": 8} | look,
            line={"color": look["color"], "width": 2},
            error_y=_range(shares),
            hovertemplate="%{y:.1%} at %{x:.4g}",
        )
    figure.add_hline(y=target, line={"color": INK, "width": 1, "dash": "dash"})
    figure.add_annotation(text=f"{target:.0%}", y=target, xref="paper", x=0, yshift=-9, showarrow=False)
    return figure.update_yaxes(tickformat=".0%", range=[0, 1.04]).update_xaxes(rangemode="tozero")


def _range(shares: Any) -> dict[str, Any] | None:
    if shares.size().max() == 1:
        return None
    mean = shares.mean()
    return {
        "array": (shares.max() - mean).to_numpy(),
        "arrayminus": (mean - shares.min()).to_numpy(),
        "thickness": 1,
        "width": 3,
    }
