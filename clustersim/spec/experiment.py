"""The experiment: everything one run needs, and the axes along which a sweep varies it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    model_validator,
)
from pydantic_core import CoreSchema

from clustersim.errors import FieldError, Problem, SpecError
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import Spec, card, card_files
from clustersim.spec.load import Document, FieldPath, Place, keys_of, load_spec, place_of, put, validate
from clustersim.spec.node import Node
from clustersim.spec.serving import Serving
from clustersim.spec.transport import Transport
from clustersim.spec.workload import CARDS as LOADS
from clustersim.spec.workload import Workload
from clustersim.units import Seconds


class Cluster(Spec):
    """The machines: equal nodes of the catalogue, or accelerators without a node around them."""

    node: Annotated[Node, card("topologies/nodes")] | None = None
    nodes: PositiveInt | None = Field(None, description="How many; by default as many as are needed.")
    accelerator: Annotated[Accelerator, card("topologies/accelerators")] | None = Field(
        None, description="Instead of a node: bare accelerators, joined by the link of their card."
    )
    accelerators: PositiveInt | None = Field(None, description="How many; by default as many as are needed.")
    transport: Annotated[Transport, card("topologies/transports")] | None = Field(
        None, description="How collectives cross between nodes; InfiniBand unless another card is named."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.node is None) == (self.accelerator is None):
            raise FieldError("node", "give either a node or an accelerator")
        for count, of in (("nodes", "node"), ("accelerators", "accelerator")):
            if getattr(self, count) is not None and getattr(self, of) is None:
                raise FieldError(count, f"needs {of}")
        return self

    @property
    def kind(self) -> Accelerator:
        """The accelerator, with the link that joins it to its peers in the node."""
        if self.node is None:
            assert self.accelerator is not None
            return self.accelerator
        link = self.node.link
        found = {"nvswitch": "nvlink", "nvlink-mesh": "nvlink", "xgmi-mesh": "xgmi", "roce-mesh": "roce"}
        kept = {"link_bandwidth": link.bandwidth} if link.bandwidth else {}
        if link.kind in found or link.kind == "pcie":
            kept["link"] = found.get(link.kind, link.kind)  # type: ignore[assignment]
        return self.node.accelerator.model_copy(update=kept)

    @property
    def per_node(self) -> int | None:
        """Accelerators that one scale-up network joins; None if nothing is said of nodes."""
        return self.node.accelerators if self.node else None

    @property
    def total(self) -> int | None:
        """Accelerators there are; None if there are as many as are needed."""
        if self.node is not None:
            return self.nodes * self.node.accelerators if self.nodes else None
        return self.accelerators


class Engine(Spec):
    """How the simulation proceeds; none of it changes a result."""

    leap: bool = Field(True, description="Jump over passes between which nothing is decided.")


class Record(Spec):
    """What is written; sums and quantiles of the summary are exact in any case."""

    iterations: Literal["all", "off"] = Field("all", description="A row for each stretch of passes, or none.")
    power_bins: PositiveInt = Field(600, le=100_000, description="Bins of the table of power.")
    power_bin: Annotated[Seconds, Field(gt=0)] | None = Field(
        None, description="Width of the bins of the table of power, instead of their number."
    )


class _NamedLoad:
    """Tells editors that a load may be one of the catalogue's, with some fields changed."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        named = {"type": "object", "properties": {"kind": {"enum": list(card_files(LOADS))}}}
        return {"anyOf": [{**named, "required": ["kind"]}, handler(schema)]}


class Experiment(Spec):
    """Everything one run needs, and the axes along which a sweep varies it."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    question: str = Field("", description="What the experiment answers, for the report.")
    cluster: Cluster
    serving: Serving
    workload: Annotated[Workload, _NamedLoad()]
    seed: NonNegativeInt = 0
    engine: Engine = Engine()
    record: Record = Record()
    sweep: dict[str, list[Any]] = Field(
        default_factory=dict, description="Field path to values; 'together' holds axes that move as one."
    )
    _places: dict[FieldPath, Place] = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default_factory=Path)
    _written: dict[str, Any] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        serving, per_node, total = self.serving, self.cluster.per_node, self.cluster.total
        stage = serving.tensor_parallel * serving.data_parallel
        if per_node is not None and stage > per_node:
            self._check_beyond_a_node(stage, per_node)
        if total is not None and serving.accelerators > total:
            raise FieldError(
                "serving.replicas",
                f"{serving.replicas} replicas of {serving.accelerators_per_replica} need "
                f"{serving.accelerators} accelerators, the cluster has {total}",
            )
        return self

    def _check_beyond_a_node(self, stage: int, per_node: int) -> None:
        """Refuse a stage larger than a node that fills no nodes evenly, or whose nodes have no network."""
        nodes = -(-stage // per_node)
        if stage % nodes:
            message = f"{stage} accelerators of a stage do not divide into {nodes} equal parts, one a node"
            raise FieldError("serving.tensor_parallel", f"{message} of {per_node}; use a multiple of {nodes}")
        if self.cluster.node is None or not self.cluster.node.network_bandwidth:
            raise FieldError(
                "serving.tensor_parallel",
                f"{stage} accelerators of a stage do not fit in a node of the cluster, which has {per_node} "
                "and no network adapters",
            )

    @model_validator(mode="after")
    def _sweep_is_possible(self) -> Self:
        for path, values in self.sweep.items():
            if not values:
                raise FieldError(f"sweep.{path}", "has no values; give at least one or leave it out")
            if any(value in values[:n] for n, value in enumerate(values)):
                raise FieldError(f"sweep.{path}", "has a value twice; keep one")
            if path == "together" and not all(isinstance(v, Mapping) for v in values):
                raise FieldError("sweep.together", "holds mappings of field paths to values, one a point")
        for path in {path: None for point in self.points() for path in point}:
            if path.partition(".")[0] in ("name", "question", "sweep"):
                raise FieldError(f"sweep.{path}", "belongs to the whole sweep and cannot be swept")
        return self

    @classmethod
    def restore(cls, data: Mapping[str, Any], folder: Path, places: Mapping[FieldPath, Place]) -> Experiment:
        """Return the experiment that *data*, another process's plain dump, describes; raises SpecError."""
        document = Document(dict(data), dict(places), folder=folder)
        experiment = validate(cls, document, needs_units=False)
        experiment._places, experiment._folder = document.places, folder
        return experiment

    @property
    def places(self) -> Mapping[FieldPath, Place]:
        """Where each field stands in the files that it was read from."""
        return self._places

    @property
    def folder(self) -> Path:
        """Where relative paths of the spec start."""
        return self._folder

    def points(self) -> list[dict[str, Any]]:
        """Return every combination of the sweep's values, as field path to value; one empty if none."""
        axes = [
            [dict(value) if path == "together" else {path: value} for value in values]
            for path, values in self.sweep.items()
        ]
        return [{k: v for part in combination for k, v in part.items()} for combination in product(*axes)]

    def at(self, point: Mapping[str, Any]) -> Experiment:
        """Return the experiment of one point of the sweep, checked again; raises SpecError."""
        written = self._written is not None
        data = deepcopy(self._written) if written else self._with_objects()
        document = Document(data, dict(self._places), folder=self._folder)
        for path, value in point.items():
            put(document, path, value, self._place_in_sweep(path, value))
        document.data.pop("sweep", None)
        moved = validate(Experiment, document, needs_units=written)
        moved._remember(document)
        return moved

    def _with_objects(self) -> dict[str, Any]:
        """Return the spec as plain data, but for the policies that no name leads to."""
        data, serving = self.model_dump(), self.serving
        for name in ("batching", "router", "admission"):
            if not getattr(serving, name).kind:
                data["serving"][name] = getattr(serving, name)
        return data

    def placed(self, error: SpecError) -> SpecError:
        """Return *error* with the place in the file of each problem that only names a field."""
        found = [
            self.problem(p.path, p.message).problems[0] if p.file == "<spec>" else p for p in error.problems
        ]
        return SpecError(found)

    def problem(self, path: str, message: str) -> SpecError:
        """Return an error about the field at *path*, with its place in the file if it is known."""
        place = place_of(self._places, keys_of(path)) or Place("<spec>")
        return SpecError([Problem(path, message, place.file, place.line, place.column)])

    def _place_in_sweep(self, path: str, value: Any) -> Place:
        """Return where the sweep gives *value* to the field at *path*."""
        values = self.sweep.get(path, [])
        at: FieldPath = ("sweep", path, values.index(value) if value in values else 0)
        if path not in self.sweep:
            at = next((known for known in self._places if known[-1:] == (path,)), ("sweep",))
        return place_of(self._places, at) or Place("sweep")

    def _remember(self, document: Document) -> None:
        """Keep what the spec was read from: places for later mistakes, data for the points of its sweep."""
        self._places, self._folder, self._written = document.places, document.folder, document.data


def load(file: str | Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment from *file*, with *overrides* (field path to value) laid over it.

    Raises SpecError, which lists every problem at once, each with file, line and column.
    """
    return load_spec(Experiment, file, overrides, Experiment._remember)
