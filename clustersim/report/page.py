"""A run or a sweep as one HTML file that needs no network and no server: the answer first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from clustersim import plots
from clustersim.record import words
from clustersim.record.summary import BY_NAME
from clustersim.report import parts
from clustersim.results import Run, Sweep
from clustersim.results.headline import answer

POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; connect-src 'none'"
)
"""What the browser lets the page do: run what is inside it, and fetch nothing."""
DRILLS: Final = 4
"""Runs of a sweep whose own figures are in its report."""
ROWS: Final = 400
COLUMNS: Final = (
    "throughput_tokens_per_s",
    "goodput_requests_per_s",
    "slo_attainment_share",
    "ttft_p50_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "tpot_p99_s",
    "energy_j_per_token",
)
TRADES: Final = {
    "the wait for the first token": "ttft_p99_s",
    "the time per output token": "tpot_p50_s",
    "energy": "energy_j_per_token",
}
"""What throughput is traded for, and the metric that says how much."""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<noscript>The figures need JavaScript; the numbers above do not.</noscript>
{template}
{config}
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def write(results: Run | Sweep, path: str | Path) -> Path:
    """Write the report of a run or a sweep to *path*, and return it; plotly.js is inside, once."""
    path = Path(path)
    title, body = _of_run(results) if isinstance(results, Run) else _of_sweep(results)
    text = _PAGE.format(
        policy=POLICY,
        title=escape(f"{title} – clustersim"),
        style=asset("page.css") + asset("dark.css"),
        body=body,
        template=parts.data(plots.TEMPLATE.to_json(), "template"),
        config=parts.data(json.dumps(plots.CONFIG), "config"),
        plotly=get_plotlyjs(),
        script=asset("page.js"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def asset(name: str) -> str:
    """Return the text of a file that lies beside this module: a style sheet or a script."""
    return files("clustersim.report").joinpath(name).read_text(encoding="utf-8")


def _of_run(run: Run) -> tuple[str, str]:
    title = str(run.manifest.get("name") or run.name)
    point = words.settings(run.point)
    pieces = [
        _head(title, point or run.name, answer(run), run.manifest),
        parts.warnings(run.manifest.get("warnings") or []),
        parts.tiles(run.summary.to_dict()),
        "<h2>Figures</h2>",
        parts.figures(run.figures()),
        "<h2>Behind the numbers</h2>",
        _behind(run),
        _footer(run.manifest),
    ]
    return title, "\n".join(pieces)


def _head(title: str, over: str, sentences: list[str], manifest: Mapping[str, Any]) -> str:
    question = str((manifest.get("experiment") or {}).get("question") or "")
    asked = f'<p class="question">{escape(question)}</p>' if question else ""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return (
        f'<header><p class="over">clustersim · {escape(over)}</p><h1>{escape(title)}</h1>{asked}'
        f'<ul class="answer">{lines}</ul></header>'
    )


def _behind(run: Run) -> str:
    said = dict(run.manifest)
    spec, found = said.pop("experiment", {}), run.summary
    said.pop("summary", None)
    notes = run.manifest.get("notes") or []
    folds = (
        *([("The load", "what was done to it on the way", parts.bullets(notes))] if notes else []),
        ("All metrics", f"{len(found)} numbers and their meaning", parts.metrics_table(found)),
        ("Experiment", "the resolved spec", parts.yaml_text(spec)),
        ("Manifest", "seed, versions, commit: enough to repeat it", parts.json_text(said)),
    )
    return "\n".join(parts.fold(*one) for one in folds)


def _footer(manifest: Mapping[str, Any]) -> str:
    """Say where the numbers come from, and what made the page."""
    versions = ", ".join(f"{k} {v}" for k, v in (manifest.get("versions") or {}).items())
    made = [f"Simulated with {versions}" if versions else "", f"seed {manifest.get('seed')}"]
    if manifest.get("commit"):
        made.append(f"commit {manifest['commit']}")
    return (
        "<footer><h3>Where the numbers come from</h3><p>Every time, token and joule on this page is "
        f"simulated.</p>{parts.provenance(manifest.get('provenance'))}"
        f"<p>{escape(', '.join(x for x in made if x))}.</p></footer>"
    )


def _of_sweep(sweep: Sweep) -> tuple[str, str]:
    if not len(sweep.done):
        title = sweep.folder.name
        return title, _head(title, "no run finished", answer(sweep), {}) + _failures(sweep)
    best = sweep.best()
    title = str(best.manifest.get("name") or sweep.folder.name)
    count = f"{len(sweep.points)} settings, {len(sweep.done)} runs"
    pieces = [
        _head(title, count, answer(sweep), best.manifest),
        parts.warnings(_all_warnings(sweep)),
        f"<h2>The best setting: {escape(_label(sweep, best))}</h2>",
        parts.tiles(sweep.best_point().to_dict()),
        "<h2>All settings</h2>",
        _results(sweep),
        _failures(sweep),
        parts.figures(_trades(sweep)),
        "<h2>Side by side</h2>",
        *_drills(sweep),
        "<h2>Behind the numbers</h2>",
        _behind(best),
        _footer(best.manifest),
    ]
    return title, "\n".join(pieces)


def _all_warnings(sweep: Sweep) -> list[str]:
    said = [line for run in sweep.runs.values() for line in run.manifest.get("warnings") or []]
    return list(dict.fromkeys(said))


def _label(sweep: Sweep, run: Run) -> str:
    row = sweep.done[sweep.done["folder"] == run.folder.relative_to(sweep.folder).as_posix()].iloc[0]
    return words.settings({axis: row[axis] for axis in sweep.axes}) or run.name


def _results(sweep: Sweep) -> str:
    points = sweep.points
    kept = [c for c in COLUMNS if points[c].notna().any()]
    table = points[[*sweep.axes, *kept, *(["replications"] if points["replications"].max() > 1 else [])]]
    table = table.rename(
        columns={axis: axis.rpartition(".")[2] for axis in sweep.axes if _is_short(sweep, axis)}
    )
    best = list(points["folder"]).index(str(sweep.best_point()["folder"]))
    note = f"Best row marked: highest {BY_NAME[sweep.goal].label.lower()}. A click on a column's head sorts."
    more = f" The first {ROWS} of {len(table)} settings." if len(table) > ROWS else ""
    return parts.sortable(table.head(ROWS), best) + f'<p class="note">{escape(note + more)}</p>'


def _is_short(sweep: Sweep, axis: str) -> bool:
    """Tell whether the last part of a field's path names it alone among the swept ones."""
    return [other.rpartition(".")[2] for other in sweep.axes].count(axis.rpartition(".")[2]) == 1


def _failures(sweep: Sweep) -> str:
    if not len(sweep.failed):
        return ""
    lines = [_failure(sweep, row) for row in sweep.failed.head(20).to_dict("records")]
    more = [f"and {len(sweep.failed) - 20} more"] if len(sweep.failed) > 20 else []
    return f'<section class="warnings"><h3>Runs that failed</h3>{parts.bullets(lines + more)}</section>'


def _failure(sweep: Sweep, row: Mapping[Any, Any]) -> str:
    where = words.settings({axis: row[axis] for axis in sweep.axes})
    stage = f" in {row['stage']}" if row["stage"] else ""
    return f"{where}: {row['status']}{stage}: {row['message']}"


def _trades(sweep: Sweep) -> dict[str, go.Figure]:
    points, axes = sweep.points, sweep.axes
    color = next((axis for axis in axes if axis != sweep.load), None)
    each = "throughput_tokens_per_s_per_accelerator"
    y = each if points[each].notna().any() else "throughput_tokens_per_s"
    drawn = {}
    if points["slo_attainment_share"].notna().any() and sweep.load:
        drawn["Requests within the SLO as the load grows"] = plots.slo_curve(sweep.done, sweep.load, color)
    for word, x in TRADES.items():
        if points[x].notna().any():
            drawn[f"Throughput against {word}"] = plots.pareto(points, x, y, color, axes)
    return drawn


def _drills(sweep: Sweep) -> Iterator[str]:
    """Yield the curves of a few settings over one another, then the figures of each, folded."""
    chosen = {_label(sweep, run): run for run in sweep.contenders(DRILLS)}
    yield f'<p class="note">{escape(_chosen_by(sweep, chosen))}</p>'
    if len(chosen) > 1:
        yield parts.figures(
            {
                "Time to first token": _overlaid(chosen, "ttft_s"),
                "Time per output token": _overlaid(chosen, "tpot_s"),
            }
        )
    for label, run in chosen.items():
        yield parts.fold(label, "its figures", parts.figures(run.figures()), "figures-inside")


def _chosen_by(sweep: Sweep, chosen: Mapping[str, Run]) -> str:
    if len(chosen) == 1:
        return "The figures of the best setting."
    others = next(axis for axis in sweep.axes if axis != sweep.load)
    at = f"; {sweep.load} is {words.setting(sweep.best_point()[sweep.load])} for all" if sweep.load else ""
    return f"The best setting, and the best of each other {others}{at}."


def _overlaid(runs: Mapping[str, Run], column: str) -> go.Figure:
    return plots.overlay({name: plots.latency_cdf(run.requests, column) for name, run in runs.items()})
