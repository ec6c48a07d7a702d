"""Every point of a sweep, on any executor; failures are rows, and what is done is kept.

*executor* is anything that keeps the contract of ``concurrent.futures``: a process pool here,
``dask.distributed.Client(...).get_executor()`` on many machines, ``runs.executors.RayExecutor`` on Ray.
What a worker gets is plain data, so policies from files work there too.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clustersim.errors import ClusterSimError, SpecError
from clustersim.record.summary import METRICS
from clustersim.runs.single import Job, make
from clustersim.spec.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is sent: plain data and paths."""

    spec: Mapping[str, Any]
    folder: Path
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
    leaves the finished runs and an index of them, and is raised on.
    """
    orders = [
        Order(experiment.model_dump(), experiment.folder, point, replication, Path(out))
        for point in experiment.points()
        for replication in range(replications)
    ]
    rows: dict[int, Row] = {}
    folder = Path(out) / experiment.name
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


def _done(orders: list[Order], executor: Executor | None) -> Iterator[tuple[int, Row]]:
    """Yield the number and row of each order as it is done."""
    if executor is None:
        for number, order in enumerate(orders):
            yield number, carry_out(order)
        return
    futures: dict[Future[Row], int] = {
        executor.submit(carry_out, order): number for number, order in enumerate(orders)
    }
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
    stage = "spec"
    try:
        whole = Experiment.model_validate(order.spec, context={"folder": order.folder})
        whole._folder = order.folder
        experiment = whole.at(order.point)
        stage = "run"
        folder, manifest = make(Job(experiment, order.out, order.point, order.replication))
    except ClusterSimError as error:
        stage = "spec" if isinstance(error, SpecError) else stage
        return _failed(order, stage, str(error))
    except Exception:
        return _failed(order, f"{stage} (a defect of clustersim or of a policy)", traceback.format_exc())
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
    with suppress(FileExistsError):
        folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), part)
    part.replace(folder / "index.parquet")


def _array(pa: Any, values: list[Any]) -> Any:
    """Return a column; one with values of several kinds is written as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([str(value) for value in values])
