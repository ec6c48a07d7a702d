"""Where the time and the memory of training steps go. Functions of tables; no I/O.

A table of steps has a row a plan: ``plan`` (what to call it), and the columns of ``Parts`` or ``Memory`` of
``clustersim.cost.training``, whose names end in ``_s`` and ``_bytes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from clustersim.plots.theme import GREY, PALETTE, blank, nothing

PARTS: Final = MappingProxyType(
    {
        "compute_s": "products and attention",
        "recompute_s": "recomputed",
        "tensor_s": "tensor parallel",
        "context_s": "context parallel",
        "expert_s": "expert parallel",
        "shards_s": "sharded weights",
        "pipeline_s": "hand-overs",
        "bubble_s": "bubble",
        "data_s": "data parallel",
        "optimizer_s": "optimizer",
        "launch_s": "launches",
        "overhead_s": "fixed and waiting",
    }
)
"""The parts of a step, in the order in which they are stacked."""
HELD: Final = MappingProxyType(
    {
        "parameters_bytes": "weights",
        "gradients_bytes": "gradients",
        "optimizer_bytes": "optimizer",
        "activations_bytes": "activations",
        "logits_bytes": "logits",
        "gathered_bytes": "whole for a moment",
        "margin_bytes": "fragmentation",
        "context_bytes": "context",
    }
)
"""What memory holds, in the order in which it is stacked."""


def step_parts(table: pd.DataFrame) -> go.Figure:
    """Stack what the step of each plan is spent on."""
    figure = blank("time of a step (s)", "")
    return _stacked(figure, table, PARTS, 1.0, "%{x:.4g} s")


def memory_parts(table: pd.DataFrame, usable_bytes: float | None = None) -> go.Figure:
    """Stack what the memory of each plan's fullest rank holds, beside what there is."""
    figure = _stacked(blank("memory of the fullest rank (GiB)", ""), table, HELD, 2.0**30, "%{x:.4g} GiB")
    if usable_bytes and len(table):
        figure.add_vline(x=usable_bytes / 2**30, line={"color": GREY, "width": 1.5, "dash": "dot"})
    return figure


def plans_found(table: pd.DataFrame) -> go.Figure:
    """Draw each plan of a search by memory and step, from columns plan, seconds, needed_bytes, fits."""
    figure = blank("memory of the fullest rank (GiB)", "time of a step (s)")
    if not len(table):
        return nothing(figure, "no plan was priced")
    for fits, name, color in ((True, "fits", PALETTE[0]), (False, "does not fit", GREY)):
        rows = table[table["fits"] == fits]
        if len(rows):
            figure.add_scattergl(
                x=rows["needed_bytes"] / 2**30,
                y=rows["seconds"],
                text=rows["plan"],
                mode="markers",
                name=name,
                marker={"color": color, "size": 6},
                hovertemplate="%{text}<br>%{x:.4g} GiB, %{y:.4g} s",
            )
    return figure.update_yaxes(rangemode="tozero")


def _stacked(
    figure: go.Figure, table: pd.DataFrame, parts: Mapping[str, str], unit: float, hover: str
) -> go.Figure:
    if not len(table):
        return nothing(figure, "no plan was priced")
    shown = {column: name for column, name in parts.items() if column in table and table[column].any()}
    for place, (column, name) in enumerate(shown.items()):
        figure.add_bar(
            x=table[column] / unit,
            y=table["plan"],
            orientation="h",
            name=name,
            marker={
                "color": PALETTE[place % len(PALETTE)],
                "pattern": {"shape": "/" * (place >= len(PALETTE))},
            },
            hovertemplate=f"{name}: {hover}",
        )
    return figure.update_layout(barmode="stack").update_yaxes(autorange="reversed", title_text="plan")
