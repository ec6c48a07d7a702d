"""Cards from measurements of one's own: protocols of a domain, or latency and share of a network.

Every second size is left out of a first fit, which gives the error that the card states; the numbers of the
card come from all sizes. Pure arithmetic and text, no clock, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from clustersim.cost.collectives.domain import curve_of
from clustersim.cost.collectives.fit import Measured, descend, errors, fitted, robust
from clustersim.cost.collectives.levels import Group, Inside, Outside, group_s
from clustersim.cost.collectives.nccltests import Run
from clustersim.errors import ClusterSimError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.efficiency import CollectiveCurve, Error, efficiency_of
from clustersim.spec.source import Source
from clustersim.spec.transport import Hops, Transport

Floats = NDArray[np.float64]

FEWEST: Final = 6
"""Sizes that a fit needs."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A card's content, and how well it meets the sizes that its first fit had not seen."""

    card: dict[str, Any]
    before: float
    """Mean error of the catalogue's numbers."""
    error: Error

    @property
    def text(self) -> str:
        """The card as YAML."""
        return yaml.safe_dump(self.card, sort_keys=False, width=120)


def domain_card(runs: Sequence[Run], accelerator: Accelerator, name: str, day: str) -> Calibrated:
    """Return an efficiency card with NCCL's protocols of one operation inside a domain, made on *day*."""
    base = efficiency_of(accelerator)
    start = curve_of(base, "nccl", runs[0].operation)
    measured, link = _together(runs), accelerator.link_bandwidth or accelerator.host_bandwidth
    before = float(np.abs(errors(start, measured, link)).mean())
    half = _every_second(measured)
    first = start.model_copy(update={"protocols": fitted(start, measured.at(half), link)})
    error = _error(np.abs(errors(first, measured.at(~half), link)))
    curve = CollectiveCurve(protocols=fitted(start, measured, link), source=_source(runs, day), error=error)
    card = {
        "name": name,
        "inherits": base.name,
        "collectives": {"nccl": {runs[0].operation: _plain(curve)}},
    }
    return Calibrated(card, before, error)


def network_card(
    runs: Sequence[Run], accelerator: Accelerator, start: Transport, name: str, day: str
) -> Calibrated:
    """Return a transport card: *start* with a factor on its crossings and one on its shares."""
    curves = efficiency_of(accelerator).collectives["nccl"]

    def groups(transport: Transport) -> list[Group]:
        return [_group(run, accelerator, curves, transport) for run in runs]

    def predict(vector: Floats, rows: list[NDArray[np.bool_]]) -> Floats:
        found = groups(_scaled(start, *np.exp(vector).tolist()))
        times = [
            group_s(group, run.operation, run.size_bytes[kept])
            for group, run, kept in zip(found, runs, rows, strict=True)
        ]
        return np.concatenate(times)

    every = [np.ones(len(run.time_s), dtype=bool) for run in runs]
    halves = [np.arange(len(run.time_s)) % 2 == 0 for run in runs]
    others = [~half for half in halves]
    best = _factors(predict, runs, halves)
    error = _error(np.abs(predict(best, others) / _times(runs, others) - 1.0))
    before = float(np.abs(predict(np.zeros(2), every) / _times(runs, every) - 1.0).mean())
    final = _scaled(start, *np.exp(_factors(predict, runs, every)).tolist())
    marks = {"source": _source(runs, day), "error": error}
    written = {c: _plain(hops.model_copy(update=marks)) for c, hops in final.curves()}
    return Calibrated({"name": name, **written}, before, error)


Predict = Callable[[Floats, list[NDArray[np.bool_]]], Floats]


def _factors(predict: Predict, runs: Sequence[Run], rows: list[NDArray[np.bool_]]) -> Floats:
    """Return the logarithms of the factors on crossings and shares that meet the times best."""
    logs = np.log(_times(runs, rows))

    def residuals(vector: Floats) -> Floats:
        return np.concatenate([robust(np.log(predict(vector, rows)) - logs), 0.02 * vector])

    return descend(residuals, np.zeros(2))[0]


def _times(runs: Sequence[Run], rows: list[NDArray[np.bool_]]) -> Floats:
    return np.concatenate([run.time_s[kept] for run, kept in zip(runs, rows, strict=True)])


def _scaled(start: Transport, crossing: float, share: float) -> Transport:
    """Return the transport with longer crossings and other shares of its links."""
    changes: dict[str, Hops] = {}
    for name, hops in start.curves():
        protocols = tuple(
            hop.model_copy(
                update={"cross": hop.cross * crossing, "link_share": min(1.0, hop.link_share * share)}
            )
            for hop in hops.protocols
        )
        changes[name] = hops.model_copy(update={"protocols": protocols})
    return start.model_copy(update=changes)


def _group(run: Run, accelerator: Accelerator, curves: Any, transport: Transport) -> Group:
    if run.ranks % run.hosts:
        raise ClusterSimError(f"{run.ranks} ranks on {run.hosts} hosts: calibrate needs as many on each")
    if not accelerator.network_bandwidth:
        raise ClusterSimError(
            f"{accelerator.name} has no network_bandwidth; name another card with --accelerator"
        )
    members = run.ranks // run.hosts
    inside = Inside(members, accelerator.link_bandwidth, curves)
    return Group(inside, (Outside(run.hosts, members * accelerator.network_bandwidth, transport),))


def _together(runs: Sequence[Run]) -> Measured:
    """Return the rows of all runs, which must be of one operation."""
    first = runs[0].operation
    if any(run.operation != first for run in runs):
        raise ClusterSimError("calibrate one operation at a time: the files are of different ones")
    ranks = np.concatenate([np.full(len(run.time_s), run.ranks) for run in runs])
    size, time_s = (np.concatenate([getattr(run, name) for run in runs]) for name in ("size_bytes", "time_s"))
    if len(time_s) < FEWEST:
        raise ClusterSimError(f"{len(time_s)} sizes are too few to calibrate on; give {FEWEST} or more")
    return Measured(first, ranks, size, time_s)


def _every_second(measured: Measured) -> NDArray[np.bool_]:
    """Mark every second size of each group."""
    order = np.lexsort((measured.size_bytes, measured.ranks))
    marks = np.zeros(len(order), dtype=bool)
    marks[order[::2]] = True
    return marks


def _error(off: Floats) -> Error:
    p90 = float(np.quantile(off, 0.9))
    return Error(
        mape=round(float(off.mean()), 4),
        p90=round(p90, 4),
        rows=len(off),
        split="held-out",
        against="every second size, left out of a fit of the others",
    )


def _source(runs: Sequence[Run], day: str) -> Source:
    groups = ", ".join(f"{run.ranks} ranks on {run.hosts} host{'s' * (run.hosts > 1)}" for run in runs)
    rows = sum(len(run.time_s) for run in runs)
    return Source(
        source=f"own nccl-tests run of {runs[0].operation}: {groups}, {rows} rows", date=day, kind="fitted"
    )


def _plain(curve: Any) -> dict[str, Any]:
    """Return a curve as a card writes it: seconds with their unit, nothing that is left at its default."""
    data: dict[str, Any] = curve.model_dump(exclude_defaults=True, exclude={"card"})
    data["protocols"] = [
        {key: _written(key, value) for key, value in protocol.items()} for protocol in data["protocols"]
    ]
    return data


def _written(key: str, value: Any) -> Any:
    if key in ("launch", "step", "cross"):
        return f"{value * 1e6:.4g} us"
    return round(value, 4) if isinstance(value, float) else value
