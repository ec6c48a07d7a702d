"""The explorer: every run below a folder in one table, the chosen ones side by side (needs ``dash``).

What a page shows is made by plain functions of tables, the same figures as in reports; only ``app`` and the
functions that build its pages know Dash.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import plotly.graph_objects as go

from clustersim import plots
from clustersim.errors import ClusterSimError
from clustersim.plots.latency import WORDS
from clustersim.record.summary import BY_NAME
from clustersim.record.words import quantity, setting
from clustersim.report.page import COLUMNS, asset
from clustersim.results import Run, Sweep, compare

if TYPE_CHECKING:
    from dash import Dash

ENERGY: Final = ("energy_j", "energy_j_per_token", "mean_power_w", "throughput_tokens_per_s", "busy_share")
CURVES: Final = ("ttft_s", "queue_s", "tpot_s", "itl_s", "e2e_s")
_TEST: Final = re.compile(r"([\w.]+)(>=|<=|!=|>|<|=)(.+)")
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


def app(folder: str | Path) -> Dash:
    """Build the explorer of the runs below *folder*; ``app(folder).run()`` serves it on this machine.

    Raises ClusterSimError if dash is not installed, or if there is no run below *folder*.
    """
    sweep = Sweep(folder)
    dash = _dash()
    names = list(sweep.runs)
    if not names:
        raise ClusterSimError(f"no finished run was found below {str(folder)!r}")
    page: Dash = dash.Dash("clustersim", serve_locally=True, title="clustersim", update_title="")
    style = f"<style>{asset('page.css')}{asset('explore.css')}</style>"
    page.index_string = page.index_string.replace("{%css%}", "{%css%}" + style)
    page.layout = layout(sweep)
    _connect(page, sweep)
    return page


def _dash() -> Any:
    try:
        return import_module("dash")
    except ImportError:
        raise ClusterSimError("the explorer needs dash: pip install 'clustersim[explore]'") from None


def rows(sweep: Sweep, text: str | None = "", sort: str | None = None) -> pd.DataFrame:
    """Return the finished runs that match *text*, one row each: swept fields and headline numbers.

    *text* is words that a row must contain, and tests such as ``rate>=8`` or ``ttft_p99_s<0.5``; a field may
    be named by the last part of its path. Sorted by *sort*, the best first.
    """
    kept = [c for c in COLUMNS if sweep.done[c].notna().any()]
    table: pd.DataFrame = sweep.done[["folder", *sweep.axes, "replication", *kept]]
    for word in (text or "").split():
        table = table[_matches(table, word)]
    if sort is None or sort not in table:
        return table
    rising = sort not in BY_NAME or BY_NAME[sort].better == "lower"
    return table.sort_values(sort, ascending=rising)


def _matches(table: pd.DataFrame, word: str) -> pd.Series:
    test = _TEST.fullmatch(word)
    column = _column(table, test[1]) if test else None
    if test is None or column is None:
        words = table[[c for c in table if c not in BY_NAME]].astype(str).agg(" ".join, axis=1)
        return words.str.contains(word, case=False, regex=False)
    values: pd.Series = table[column]
    if not _is_number(values):
        return pd.Series(_OPERATORS[test[2]](values.astype(str), test[3]), index=table.index)
    try:
        return pd.Series(_OPERATORS[test[2]](values, float(test[3])), index=table.index)
    except ValueError:
        return pd.Series(False, index=table.index)


def _column(table: pd.DataFrame, name: str) -> str | None:
    return next((str(c) for c in table if name in (c, str(c).rpartition(".")[2])), None)


def curves(sweep: Sweep, chosen: Sequence[str], column: str) -> go.Figure:
    """Lay the distributions of a latency of the chosen runs over one another."""
    drawn = {name: _curve(sweep.runs[name], column) for name in chosen}
    return plots.overlay(drawn) if drawn else _empty("choose runs")


def _curve(run: Run, column: str) -> go.Figure:
    if column == "itl_s":
        return plots.itl_cdf(run.iterations, run.token_gaps)
    return plots.latency_cdf(run.requests, column)


def _empty(why: str) -> go.Figure:
    return plots.theme.nothing(plots.theme.blank("", ""), why)


def differences(sweep: Sweep, chosen: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Compare the first chosen run with the second: differing fields, metrics in words, and on what basis."""
    if len(chosen) < 2:
        return pd.DataFrame(), pd.DataFrame(), "Choose two runs to compare."
    found = compare(sweep.runs[chosen[0]], sweep.runs[chosen[1]])
    spec = found.spec.rename(columns={"a": found.names[0], "b": found.names[1]})
    lines = [_words(row) for row in found.metrics.to_dict("records")]
    metrics = pd.DataFrame(lines, columns=["metric", *found.names, "change", "95% confidence", "verdict"])
    return spec, metrics, found.text.splitlines()[0]


def _words(row: Mapping[Any, Any]) -> list[str]:
    name = row["metric"]
    percent = "" if pd.isna(row["percent"]) else f"{row['percent']:+.1f}%"
    sure = "" if pd.isna(row["low"]) else f"{quantity(name, row['low'])} to {quantity(name, row['high'])}"
    values = [quantity(name, row["a"]), quantity(name, row["b"])]
    return [BY_NAME[name].label, *values, percent, sure, row["verdict"]]


def span(sweep: Sweep, name: str) -> tuple[float, float, list[float]]:
    """Return the first and the last second of a run, and the part of it to show first."""
    run = sweep.runs[name]
    steps, times = run.iterations, run.requests[["arrival_s", "finish_s"]]
    low_s, high_s = float(times.min(axis=None)), float(times.max(axis=None))
    if len(steps):
        low_s, high_s = float(steps["start_s"].min()), float((steps["start_s"] + steps["duration_s"]).max())
    first_s, last_s = run.window()
    shown_s = [low_s if first_s is None else first_s, high_s if last_s is None else last_s]
    return low_s, high_s, [round(x, 3) for x in shown_s]


def moments(sweep: Sweep, name: str, window_s: Sequence[float]) -> list[go.Figure]:
    """Return the time line of a run between two moments, and its batch and memory over the same time."""
    run, (low_s, high_s) = sweep.runs[name], window_s
    steps, before_s = run.iterations, low_s - (high_s - low_s) / 10
    near = steps[(steps["start_s"] < high_s) & (steps["start_s"] + steps["duration_s"] > before_s)]
    total_blocks = int(run.manifest.get("kv_blocks_total") or 0)
    drawn = [
        plots.timeline(steps, low_s, high_s),
        plots.batch_and_queue(near),
        plots.kv_cache(near, total_blocks, run.events),
    ]
    return [figure.update_xaxes(range=[low_s, high_s]) for figure in drawn]


def watts(sweep: Sweep, chosen: Sequence[str]) -> tuple[pd.DataFrame, list[go.Figure]]:
    """Return the energy of the chosen runs in words, and the power of each over time."""
    table = pd.DataFrame(
        [[name, *(quantity(key, sweep.runs[name].summary[key]) for key in ENERGY)] for name in chosen],
        columns=["run", *(BY_NAME[key].label for key in ENERGY)],
    )
    drawn = []
    for name in chosen:
        run = sweep.runs[name]
        figure = plots.power(run.power, run.manifest.get("idle_w"))
        drawn.append(figure.update_layout(title_text=name, title_font_size=13, margin_t=64))
    return table, drawn


def layout(sweep: Sweep) -> Any:
    """Build the page: which runs, and four tabs that show them."""
    html, dcc = _dash().html, _dash().dcc
    names = list(sweep.runs)
    pages = {"Runs": _runs_page, "Compare": _compare_page, "Timeline": _timeline_page, "Power": _power_page}
    tabs = [dcc.Tab(build(sweep), label=name, value=name) for name, build in pages.items()]
    return html.Main(
        [
            html.P(f"clustersim · {len(names)} runs, {len(sweep.failed)} failed", className="over"),
            html.H1(sweep.folder.resolve().name),
            html.Label("runs to look at; the second is compared with the first", htmlFor="chosen"),
            dcc.Dropdown(names, _best_names(sweep, 2), multi=True, id="chosen"),
            dcc.Tabs(tabs, value="Runs", id="tabs"),
        ]
    )


def _best_names(sweep: Sweep, count: int) -> list[str]:
    return [run.folder.relative_to(sweep.folder).as_posix() for run in sweep.contenders(count)]


def _runs_page(sweep: Sweep) -> Any:
    html, dcc = _dash().html, _dash().dcc
    columns = [{"label": _label(str(c)), "value": str(c)} for c in rows(sweep).columns]
    example = "words, or tests such as rate>=8 ttft_p99_s<0.5"
    filters = html.Div(
        [
            html.Div([html.Label("filter"), dcc.Input(id="text", type="text", placeholder=example)]),
            html.Div([html.Label("sort by"), dcc.Dropdown(columns, sweep.goal, id="sort")]),
        ],
        className="picks",
    )
    return html.Div([filters, html.Div(id="table")])


def _compare_page(sweep: Sweep) -> Any:
    html, dcc = _dash().html, _dash().dcc
    options = [{"label": WORDS[column], "value": column} for column in CURVES]
    column = dcc.Dropdown(options, CURVES[0], clearable=False, id="column")
    return html.Div(
        [
            html.Div(html.Div([html.Label("distribution of"), column]), className="picks"),
            dcc.Graph(id="curves", config=plots.CONFIG),
            html.P(id="basis", className="note"),
            html.Div(id="spec"),
            html.Div(id="deltas"),
        ]
    )


def _timeline_page(sweep: Sweep) -> Any:
    html, dcc = _dash().html, _dash().dcc
    names, first = list(sweep.runs), _best_names(sweep, 1)[0]
    low_s, high_s, window_s = span(sweep, first)
    slider = dcc.RangeSlider(low_s, high_s, value=window_s, id="window", marks=None, allowCross=False)
    graphs = [dcc.Graph(id=f"moment-{place}", config=plots.CONFIG) for place in range(3)]
    one = dcc.Dropdown(names, first, clearable=False, id="one")
    picks = [html.Div([html.Label("run"), one]), html.Div([html.Label("seconds"), slider])]
    return html.Div([html.Div(picks, className="picks"), *graphs])


def _power_page(sweep: Sweep) -> Any:
    return _dash().html.Div([_dash().html.Div(id="energy"), _dash().html.Div(id="watts")])


def sheet(table: pd.DataFrame) -> Any:
    """Return a table as Dash shows it: metrics with their units, everything else as short text."""
    html = _dash().html
    kinds = ["" if _is_number(table[name]) else "text" for name in table.columns]
    names = [str(name) for name in table.columns]
    head = [html.Th(_label(name), className=kind) for name, kind in zip(names, kinds, strict=True)]
    body = [html.Tr([html.Td(text, className=kind) for text, kind in line]) for line in _lines(table, kinds)]
    return html.Div(html.Table([html.Thead(html.Tr(head)), html.Tbody(body)]), className="sheet")


def _lines(table: pd.DataFrame, kinds: list[str]) -> Iterator[list[tuple[str, str]]]:
    for row in table.itertuples(index=False):
        cells = zip(table.columns, row, kinds, strict=True)
        yield [(_text(str(name), value), kind) for name, value, kind in cells]


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values)


def _label(name: str) -> str:
    return BY_NAME[name].label if name in BY_NAME else name


def _text(name: str, value: Any) -> str:
    return quantity(name, float(value)) if name in BY_NAME else setting(value)


def _connect(page: Dash, sweep: Sweep) -> None:
    """Tie the inputs of the pages to the functions above."""
    _connect_tables(page, sweep)
    _connect_time(page, sweep)


def _connect_tables(page: Dash, sweep: Sweep) -> None:
    from dash import Input, Output

    @page.callback(Output("table", "children"), Input("text", "value"), Input("sort", "value"))
    def show_rows(text: str | None, sort: str | None) -> Any:
        return sheet(rows(sweep, text, sort))

    @page.callback(Output("curves", "figure"), Input("chosen", "value"), Input("column", "value"))
    def show_curves(chosen: list[str], column: str) -> go.Figure:
        return curves(sweep, chosen or [], column)

    outputs = [Output("basis", "children"), Output("spec", "children"), Output("deltas", "children")]

    @page.callback(outputs, Input("chosen", "value"))
    def show_differences(chosen: list[str]) -> Any:
        spec, metrics, basis = differences(sweep, chosen or [])
        return basis, sheet(spec), sheet(metrics)


def _connect_time(page: Dash, sweep: Sweep) -> None:
    from dash import Input, Output, dcc

    slider = [Output("window", key) for key in ("min", "max", "value")]
    graphs = [Output(f"moment-{place}", "figure") for place in range(3)]

    @page.callback(slider, Input("one", "value"))
    def show_span(name: str) -> Any:
        return span(sweep, name)

    @page.callback(graphs, Input("one", "value"), Input("window", "value"))
    def show_moments(name: str, window_s: list[float]) -> Any:
        return moments(sweep, name, window_s)

    @page.callback([Output("energy", "children"), Output("watts", "children")], Input("chosen", "value"))
    def show_watts(chosen: list[str]) -> Any:
        table, drawn = watts(sweep, chosen or [])
        config: Any = plots.CONFIG
        return sheet(table), [dcc.Graph(figure=figure, config=config) for figure in drawn]
