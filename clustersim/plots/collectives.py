"""Collectives by size: bus bandwidth, and which algorithm gives it. Functions of tables; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots.theme import INK, blank, colors, nothing, scale

GB = 1e9


def busbw(tables: Mapping[str, pd.DataFrame], line_rate_bytes_per_s: float | None = None) -> go.Figure:
    """Draw the bus bandwidth over the buffer's size, one curve a table, and the rate of a link.

    A table has the columns of ``clustersim.cost.collectives.busbw``: ``size_bytes``, ``time_s``,
    ``busbw_bytes_per_s`` and, for the text at a point, ``algorithm``. Measured tables, which lack it, are
    drawn as points.
    """
    figure = blank("buffer (bytes)", "bus bandwidth (GB/s)")
    filled = {name: table for name, table in tables.items() if len(table)}
    if not filled:
        return nothing(figure, "no sizes")
    for (name, table), color in zip(filled.items(), colors(filled).values(), strict=True):
        figure.add_trace(_curve(name, table.sort_values("size_bytes"), color))
    if line_rate_bytes_per_s is not None:
        figure.add_hline(
            y=line_rate_bytes_per_s / GB, line_dash="dot", line_color=INK, annotation_text="link"
        )
    return _powers(scale("x", figure, is_log=True), pd.concat(filled.values()).size_bytes)


def _curve(name: str, table: pd.DataFrame, color: str) -> go.Scatter:
    predicted = "algorithm" in table
    return go.Scatter(
        x=table.size_bytes,
        y=table.busbw_bytes_per_s / GB,
        name=name,
        mode="lines" if predicted else "markers",
        line={"color": color},
        marker={"color": color, "size": 7},
        customdata=np.stack(
            [table.time_s * 1e6, table.algorithm if predicted else [""] * len(table)], axis=1
        ),
        hovertemplate="%{x:.3s}B: %{y:.4g} GB/s, %{customdata[0]:.4g} µs %{customdata[1]}",
    )


def _powers(figure: go.Figure, size_bytes: pd.Series[float]) -> go.Figure:
    """Label every fourth power of two of a logarithmic axis as people say it."""
    first, last = (int(np.log2(value)) for value in (size_bytes.min(), size_bytes.max()))
    ticks = [2.0**power for power in range(first, last + 1, max(1, (last - first) // 6))]
    return figure.update_xaxes(tickvals=ticks, ticktext=[_words(tick) for tick in ticks], dtick=None)


def _words(size_bytes: float) -> str:
    """Return a number of bytes in a power-of-two unit.

    >>> _words(2.0**21)
    '2 MiB'
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(np.log2(size_bytes)) // 10, len(units) - 1)
    return f"{size_bytes / 1024**power:g} {units[power]}"
