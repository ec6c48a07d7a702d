"""Pieces of a page: tiles, tables, figures, folds. Text in, HTML out; everything is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
import yaml
from plotly.io import to_json

from clustersim.plots.theme import HEIGHT
from clustersim.record.summary import BY_NAME, METRICS
from clustersim.record.words import quantity, setting

WIDE: Final = ("Timeline", "Pareto")
"""Titles that begin so get the whole width."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that is looked at first: what, how much, and a smaller remark."""

    label: str
    value: str
    remark: str = ""


def tiles(found: Mapping[str, float]) -> str:
    """Return the headline numbers of a summary as tiles."""
    return f'<div class="tiles">{"".join(map(_tile, _chosen(found)))}</div>'


def _tile(tile: Tile) -> str:
    number, _, unit = tile.value.partition(" ")
    remark = "" if "–" in tile.remark else tile.remark
    value = f"{escape(number)} <small>{escape(unit)}</small>" if unit else escape(number)
    return (
        f'<div class="tile"><div class="label">{escape(tile.label)}</div>'
        f'<div class="value">{value}</div><div class="sub">{escape(remark)}&nbsp;</div></div>'
    )


def _chosen(found: Mapping[str, float]) -> list[Tile]:
    text = {name: quantity(name, found[name]) for name in BY_NAME}
    each = text["throughput_tokens_per_s_per_accelerator"]
    whole = Tile("Requests", text["requests"], f"{text['finished']} finished in {text['duration_s']}")
    shown = [
        whole,
        Tile("Throughput", text["throughput_tokens_per_s"], f"{each} an accelerator"),
        Tile("Served", text["throughput_requests_per_s"], f"{text['request_rate_per_s']} offered"),
        Tile("Within the SLO", text["slo_attainment_share"], f"goodput {text['goodput_requests_per_s']}"),
        Tile("Time to first token", text["ttft_p50_s"], f"p99 {text['ttft_p99_s']}"),
        Tile("Time per output token", text["tpot_p50_s"], f"p99 {text['tpot_p99_s']}"),
        Tile("Between tokens, p99", text["itl_p99_s"], f"median {text['itl_p50_s']}"),
        Tile("KV cache, peak", text["kv_peak_share"], f"{text['preemptions']} preemptions"),
        Tile("Busy", text["busy_share"], f"mean batch {text['batch_mean_sequences']}"),
        Tile("Energy per output token", text["energy_j_per_token"], f"mean power {text['mean_power_w']}"),
    ]
    return [tile for tile in shown if tile.value != "–"]


def figures(drawn: Mapping[str, go.Figure]) -> str:
    """Return figures by title as cards in a grid; the page draws each when it comes into sight."""
    cards = "".join(_figure(title, figure) for title, figure in drawn.items())
    return f'<div class="figures" data-run>{cards}</div>'


def _figure(title: str, figure: go.Figure) -> str:
    wide = " wide" if title.startswith(WIDE) else ""
    height = figure.layout.height or HEIGHT
    return (
        f'<section class="figure{wide}"><h3>{escape(title)}</h3>'
        f'<div class="plot" style="min-height:{height}px"></div>{data(figure_json(figure))}</section>'
    )


def figure_json(figure: go.Figure) -> str:
    """Return a figure as JSON, without the template: the page holds that once."""
    bare = go.Figure(figure)
    bare.layout.template = None
    return str(to_json(bare, validate=False))


def data(text: str, name: str = "") -> str:
    """Return JSON *text* as a script element that is data, not code."""
    label = f' id="{escape(name)}"' if name else ""
    return f'<script type="application/json"{label}>{safe_json(text)}</script>'


def safe_json(text: str) -> str:
    r"""Return JSON in which no text can end the element that holds it.

    >>> safe_json('["</script>"]')
    '["\\u003c/script>"]'
    """
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def metrics_table(found: Mapping[str, float]) -> str:
    """Return every metric with its value and its meaning."""
    rows = "".join(
        f'<tr><td class="text">{escape(m.label)}</td><td>{escape(quantity(m.name, found[m.name]))}</td>'
        f'<td class="text"><code>{escape(m.name)}</code></td><td class="doc">{escape(m.doc)}</td></tr>'
        for m in METRICS
    )
    head = '<th class="text">metric</th><th>value</th><th class="text">key</th><th class="text">meaning</th>'
    return f'<div class="sheet"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def sortable(table: pd.DataFrame, best: int | None = None) -> str:
    """Return a table that sorts by a click on a head; row number *best* stands out."""
    head = "".join(_head(str(name), table[name]) for name in table.columns)
    body = "".join(
        _row(table.columns, row, "best" if place == best else "")
        for place, row in enumerate(table.itertuples(index=False))
    )
    return (
        f'<div class="sheet"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(names: Iterable[Any], values: Iterable[Any], kind: str) -> str:
    cells = "".join(_cell(str(name), value) for name, value in zip(names, values, strict=True))
    return f'<tr class="{kind}">{cells}</tr>'


def _head(name: str, values: pd.Series) -> str:
    label = BY_NAME[name].label if name in BY_NAME else name.replace("_", " ")
    about = f' title="{escape(BY_NAME[name].doc)}"' if name in BY_NAME else ""
    kind = "" if pd.api.types.is_numeric_dtype(values) else ' class="text"'
    return f"<th{kind}{about}>{escape(label)}</th>"


def _cell(name: str, value: Any) -> str:
    if name in BY_NAME:
        raw = "" if pd.isna(value) else repr(float(value))
        return f'<td data-value="{raw}">{escape(quantity(name, float(value)))}</td>'
    if isinstance(value, str):
        return f'<td class="text">{escape(value)}</td>'
    return f"<td>{escape(setting(value))}</td>"


def fold(title: str, remark: str, content: str, kind: str = "") -> str:
    """Return content that is folded until asked for."""
    return (
        f'<details class="fold {kind}"><summary>{escape(title)}<span>{escape(remark)}</span></summary>'
        f"{content}</details>"
    )


def yaml_text(value: Any) -> str:
    """Return plain data as readable, escaped YAML."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    return f"<pre>{escape(text)}</pre>"


def json_text(value: Any) -> str:
    """Return plain data as indented, escaped JSON."""
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def bullets(lines: Iterable[str]) -> str:
    """Return lines as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def provenance(said: Any) -> str:
    """Return where each price comes from: how many of each kind, those assumed, and the whole list, folded.

    *said* is what the manifest says: lines ``price: kind (card): source``, or a mapping of price to the rest.
    """
    lines = said.splitlines() if isinstance(said, str) else [f"{k}: {v}" for k, v in dict(said or {}).items()]
    if not lines:
        return "<p>The manifest names no sources of its prices.</p>"
    rows = [_source(line) for line in lines]
    kinds = pd.Series([kind for _, kind, _ in rows]).value_counts()
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    assumed = ", ".join(name for name, kind, _ in rows if kind == "assumed")
    note = f"Assumed, without a measurement: {assumed}." if assumed else "None is merely assumed."
    said_first = f"<p>The prices behind them: {escape(counts)}. {escape(note)}</p>"
    remark = f"{len(rows)} prices, each with its source and error"
    return said_first + fold("Sources", remark, _sources(rows))


def _source(line: str) -> tuple[str, str, str]:
    name, _, rest = line.partition(": ")
    kind, _, source = rest.partition(" ")
    return name, kind, source


def _sources(rows: Sequence[tuple[str, str, str]]) -> str:
    head = '<th class="text">price</th><th class="text">kind</th><th class="text">source and error</th>'
    body = "".join(
        f'<tr><td class="text">{escape(name)}</td><td class="text">{escape(kind)}</td>'
        f'<td class="doc">{escape(source)}</td></tr>'
        for name, kind, source in rows
    )
    return f'<div class="sheet"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def warnings(lines: Sequence[str]) -> str:
    """Return warnings as a box that cannot be overlooked; nothing if there is none."""
    if not lines:
        return ""
    return f'<section class="warnings"><h3>{_count(len(lines))}</h3>{bullets(lines)}</section>'


def _count(count: int) -> str:
    return "A warning" if count == 1 else f"{count} warnings"
