"""Watts over time. Functions of tables; no I/O."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clustersim.plots import bins as exact
from clustersim.plots.theme import GREY, INK, PALETTE, blank, faded, nothing, on_time

SHOWN: Final = 7
"""Domains drawn one by one; the others are drawn together."""


def power(table: pd.DataFrame, idle_w: float | None = None, bins: int = 300) -> go.Figure:
    """Stack the power of each domain over time; *idle_w* is what one of them draws when it idles."""
    figure = blank("time (s)", "power of accelerator boards (kW)")
    if not len(table):
        return nothing(figure, "no power was metered")
    ends_s = table["start_s"] + table["duration_s"]
    bounds_s = exact.edges(float(table["start_s"].min()), float(ends_s.max()), bins)
    energy_j = (table["power_w"] * table["duration_s"]).groupby(table["domain"]).sum()
    names = sorted(energy_j.nlargest(SHOWN).index, key=lambda name: list(energy_j.index).index(name))
    for name, color in zip(names, PALETTE, strict=False):
        _layer(figure, table[table["domain"] == name], bounds_s, (str(name), color))
    rest = table[~table["domain"].isin(names)]
    if len(rest):
        _layer(figure, rest, bounds_s, (f"{len(energy_j) - len(names)} others", GREY))
    if idle_w:
        floor_kw = idle_w * len(energy_j) / 1e3
        figure.add_hline(y=floor_kw, line={"color": INK, "width": 1, "dash": "dot"})
        figure.add_annotation(text="all idle", y=floor_kw, xref="paper", x=1, yshift=9, showarrow=False)
    return on_time(figure.update_yaxes(rangemode="tozero"), bounds_s[0], bounds_s[-1])


def _layer(figure: go.Figure, rows: pd.DataFrame, bounds_s: np.ndarray, look: tuple[str, str]) -> None:
    name, color = look
    columns = (rows[c].to_numpy() for c in ("start_s", "duration_s", "power_w"))
    mean_kw = exact.level_mean(bounds_s, *columns) / 1e3
    figure.add_scatter(
        x=bounds_s,
        y=np.append(mean_kw, mean_kw[-1]),
        name=name,
        mode="lines",
        stackgroup="power",
        fillcolor=faded(color, 0.35),
        line={"shape": "hv", "width": 1, "color": color},
        hovertemplate="%{y:.4g} kW",
    )
