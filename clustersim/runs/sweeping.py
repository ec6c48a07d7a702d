"""Every point of a sweep, on any executor; failures are rows, and what is done is kept.

*executor* is anything that keeps the contract of ``concurrent.futures``: a process pool here,
``dask.distributed.Client(...).get_executor()`` on many machines, ``runs.executors.RayExecutor`` on Ray.
What a worker gets is plain data, so policies from files work there too.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clustersim.errors import ClusterSimError, SpecError
from clustersim.record.summary import METRICS
from clustersim.runs.single import Job, make, results_in, unwritable
from clustersim.sim.plan import check
from clustersim.spec.experiment import Experiment
from clustersim.spec.load import FieldPath, Place

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is sent: plain data and paths. *spec* is that of the point, or what is wrong with it."""

    spec: Mapping[str, Any] | SpecError
    folder: Path
    places: Mapping[FieldPath, Place]
    point: Mapping[str, Any]
    replication: int
    out: Path


def sweep(
    experiment: Experiment,
    out: str | Path = "runs",
    replications: int = 1,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Run every point of *experiment*'s sweep and return the folder of the results, with its index.

    Points that *out* holds already are not run again. A point that fails is a row of the index with its
    status, stage and message. *progress* is told how many runs of how many are done. An interruption
    leaves the finished runs and an index of them, and is raised on. Raises SpecError, before anything
    is run or written, if no point can be.
    """
    orders = list(_orders(experiment, Path(out), replications))
    wrong = [order.spec for order in orders if isinstance(order.spec, SpecError)]
    if len(wrong) == len(orders):
        raise SpecError.of(wrong)
    rows: dict[int, Row] = {}
    folder = Path(out) / experiment.name
    with results_in(folder):
        try:
            for number, row in _done(orders, executor):
                rows[number] = row
                if progress is not None:
                    progress(len(rows), len(orders))
        finally:
            if rows:
                _write_index(folder, [rows[number] for number in sorted(rows)])
    return folder


def table(folder: str | Path) -> pd.DataFrame:
    """Return the index of a sweep's folder: one row a run, the swept fields and the summary."""
    from clustersim.results import Sweep

    index: pd.DataFrame = Sweep(folder).index
    return index


def _orders(experiment: Experiment, out: Path, replications: int) -> Iterator[Order]:
    """Yield what is to be run, point by point, each checked."""
    for point in experiment.points():
        spec: Mapping[str, Any] | SpecError
        try:
            at = experiment.at(point)
            spec, places = at.model_dump(), at.places
            _refuse_objects(at)
            check(at)
        except SpecError as error:
            spec, places = error, {}
        for replication in range(replications):
            yield Order(spec, experiment.folder, places, point, replication, out)


def _refuse_objects(experiment: Experiment) -> None:
    """Refuse a policy that no name leads to, since workers get names."""
    for name, policy in zip(("batching", "router", "admission"), experiment.serving.policies(), strict=True):
        if not policy.kind:
            made = type(policy).__name__
            message = f"is an object of {made}, which no worker can find; for a sweep, write file.py:{made}"
            raise experiment.problem(f"serving.{name}", message)


def _done(orders: list[Order], executor: Executor | None) -> Iterator[tuple[int, Row]]:
    """Yield the number and row of each order as it is done."""
    here = [n for n, order in enumerate(orders) if executor is None or isinstance(order.spec, SpecError)]
    for number in here:
        yield number, carry_out(orders[number])
    if executor is None:
        return
    away = [number for number in range(len(orders)) if number not in here]
    futures: dict[Future[Row], int] = {executor.submit(carry_out, orders[n]): n for n in away}
    try:
        for future in as_completed(futures):
            yield futures[future], _result(future, orders[futures[future]])
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _result(future: Future[Row], order: Order) -> Row:
    try:
        return future.result()
    except Exception as error:  # a worker that died: the row says so, the others go on
        return _failed(order, "worker", f"{type(error).__name__}: {error}")


def carry_out(order: Order) -> Row:
    """Make one run and return its row of the index; a failure is a row too."""
    if isinstance(order.spec, SpecError):
        return _failed(order, "spec", str(order.spec))
    try:
        experiment = Experiment.restore(order.spec, order.folder, order.places)
        folder, manifest = make(Job(experiment, order.out, order.point, order.replication))
    except ClusterSimError as error:
        return _failed(order, "spec" if isinstance(error, SpecError) else "run", str(error))
    except Exception:
        return _failed(order, "run (a defect of clustersim or of a policy)", traceback.format_exc())
    said = {"status": "ok", "stage": "", "message": "", "folder": folder.name}
    return {**labels(order.point), "replication": order.replication, **said, **manifest["summary"]}


def labels(point: Mapping[str, Any]) -> Row:
    """Return the swept fields as values that a table can hold and a person can read."""
    return {path: _label(value) for path, value in point.items()}


def _label(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    words = [str(v) if k == "kind" else f"{k}={_label(v)}" for k, v in value.items()]
    return " ".join(words)


def _failed(order: Order, stage: str, message: str) -> Row:
    said = {"status": "failed", "stage": stage, "message": message, "folder": ""}
    empty = {metric.name: float("nan") for metric in METRICS}
    return {**labels(order.point), "replication": order.replication, **said, **empty}


def _write_index(folder: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(rows)
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in rows[0]}
    arrays = {name: _array(pa, values) for name, values in columns.items()}
    part = folder / "index.parquet.part"
    try:
        pq.write_table(pa.table(arrays), part)
        part.replace(folder / "index.parquet")
    except OSError as error:
        raise unwritable(folder, error) from None


def _array(pa: Any, values: list[Any]) -> Any:
    """Return a column; one with values of several kinds is written as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([str(value) for value in values])
