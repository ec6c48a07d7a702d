"""The look of every figure: palette, margins, fonts, and the axis words. No data, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import plotly.graph_objects as go

CONFIG: Final[dict[str, Any]] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
"""For every place that shows a figure: no logo, and no button that uploads the data."""

PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#b8a800")
"""Okabe and Ito's colours, told apart by colour-blind readers; black and yellow are replaced by a grey and
a darker yellow, so that every colour shows on white and on black."""

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY, YELLOW = PALETTE
INK: Final = "#5b6472"
GRID: Final = "rgba(128, 137, 150, 0.22)"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
HEIGHT: Final = 340
SPREAD: Final = 50.0
"""Where the largest number is so many times a usual one, the axis is logarithmic."""

_AXIS: Final[dict[str, Any]] = {
    "gridcolor": GRID,
    "zerolinecolor": GRID,
    "linecolor": GRID,
    "title": {"standoff": 8, "font": {"size": 12}},
    "tickfont": {"size": 11},
}

TEMPLATE: Final = go.layout.Template(
    layout={
        "colorway": list(PALETTE),
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "margin": {"l": 56, "r": 16, "t": 28, "b": 44},
        "hoverlabel": {"font": {"family": FONT, "size": 12}, "namelength": -1},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0, "xanchor": "left"},
        "modebar": {"bgcolor": "rgba(0, 0, 0, 0)", "color": "rgba(128, 137, 150, 0.55)", "activecolor": BLUE},
        "bargap": 0.25,
        "xaxis": _AXIS,
        "yaxis": _AXIS | {"automargin": True},
    }
)


def blank(x: str, y: str) -> go.Figure:
    """Return an empty figure in our look, with its axis titles."""
    figure = go.Figure()
    figure.update_layout(template=TEMPLATE, showlegend=True, height=HEIGHT)
    figure.update_xaxes(title_text=x)
    return figure.update_yaxes(title_text=y)


def nothing(figure: go.Figure, why: str) -> go.Figure:
    """Say in an empty figure why it is empty."""
    figure.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False)
    return figure.add_annotation(text=why, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)


def on_time(figure: go.Figure, start_s: float, end_s: float) -> go.Figure:
    """Give the figure a time axis; pages link the axes of all figures marked so."""
    figure.update_layout(meta={"time": True}, hovermode="x unified")
    return figure.update_xaxes(range=[start_s, end_s])


def scale(axis: str, figure: go.Figure, is_log: bool) -> go.Figure:
    """Make the axis ``x`` or ``y`` logarithmic, or linear from zero."""
    look = {"type": "log", "dtick": "D2"} if is_log else {"type": "linear", "rangemode": "tozero"}
    return figure.update_layout({f"{axis}axis": look})


def faded(color: str, alpha: float) -> str:
    """Return a colour of the palette with an opacity.

    >>> faded("#0072b2", 0.25)
    'rgba(0, 114, 178, 0.25)'
    """
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


def colors(values: Iterable[Any]) -> dict[Any, str]:
    """Give each distinct value a colour, in order of appearance."""
    return {value: PALETTE[i % len(PALETTE)] for i, value in enumerate(dict.fromkeys(values))}
