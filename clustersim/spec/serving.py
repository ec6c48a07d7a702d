"""A service: a model on equal replicas, its memory, its policies, its promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, SerializeAsAny, ValidationInfo, field_validator, model_validator

from clustersim.errors import FieldError
from clustersim.policies import Admission, BatchingPolicy, Router
from clustersim.policies.admission import Always
from clustersim.policies.batching import Chunked
from clustersim.policies.registry import by_name
from clustersim.policies.routing import LeastOutstanding
from clustersim.spec.base import Spec, card
from clustersim.spec.efficiency import FOLDER as EFFICIENCY_CARDS
from clustersim.spec.efficiency import Efficiency
from clustersim.spec.model import Model
from clustersim.spec.precision import Precision
from clustersim.spec.stack import FOLDER as STACK_CARDS
from clustersim.spec.stack import Stack, load_stack
from clustersim.units import Bytes, Seconds


class KvMemory(Spec):
    """How a replica's memory becomes key-value cache, and what happens when it runs out."""

    share: float = Field(0.9, gt=0, le=1, description="Of each accelerator's memory that the engine fills.")
    block_tokens: PositiveInt = Field(16, le=1024, description="Tokens in a block of cache.")
    watermark: float = Field(0.01, ge=0, lt=0.5, description="Share of blocks that admission keeps free.")
    preemption: Literal["recompute", "swap"] = Field(
        "recompute", description="What happens to the cache of a preempted sequence."
    )
    swap_space: Bytes = Field(0.0, description="Host memory of a replica for swapped caches.")
    blocks: PositiveInt | None = Field(
        None, description="Blocks of a replica, where they are known; otherwise they follow from the memory."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preemption == "swap" and not self.swap_space:
            raise FieldError("swap_space", "must be given for preemption: swap, for example '64 GB'")
        if self.preemption == "recompute" and self.swap_space:
            raise FieldError("swap_space", "has no effect with preemption: recompute")
        return self


class Slo(Spec):
    """What a request is promised; absent limits promise nothing."""

    ttft: Annotated[Seconds, Field(gt=0)] | None = Field(None, description="Most time to the first token.")
    tpot: Annotated[Seconds, Field(gt=0)] | None = Field(None, description="Most time per further token.")
    e2e: Annotated[Seconds, Field(gt=0)] | None = Field(None, description="Most time to the last token.")


class Serving(Spec):
    """A service of equal replicas behind one router."""

    model: Annotated[Model, card("workloads/models")]
    replicas: PositiveInt = 1
    tensor_parallel: PositiveInt = Field(1, description="Accelerators that share every layer.")
    pipeline_parallel: PositiveInt = Field(1, description="Stages that the layers are cut into.")
    data_parallel: PositiveInt = Field(1, description="Ranks of a replica that split its batch's attention.")
    expert_parallel: PositiveInt = Field(1, description="Groups of a replica that hold different experts.")
    precision: Precision = Precision()
    stack: Annotated[Stack, card(STACK_CARDS)] = Field(default_factory=lambda: load_stack("generic"))
    efficiency: Annotated[Efficiency, card(EFFICIENCY_CARDS)] | None = Field(
        None, description="Curves of the accelerator's kernels; by default those of its generation."
    )
    measured: Path | None = Field(
        None, description="A table of your own measured kernel or pass times (CSV or Parquet)."
    )
    batching: Annotated[SerializeAsAny[BatchingPolicy], by_name(BatchingPolicy, "chunked")] = Chunked(
        kind="chunked"
    )
    router: Annotated[SerializeAsAny[Router], by_name(Router, "least-outstanding")] = LeastOutstanding(
        kind="least-outstanding"
    )
    admission: Annotated[SerializeAsAny[Admission], by_name(Admission, "always")] = Always(kind="always")
    memory: KvMemory = KvMemory()
    slo: Slo = Slo()

    @field_validator("measured")
    @classmethod
    def _found(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return None
        folder = Path((info.context or {}).get("folder") or Path())
        found = next((path for path in (folder / value, value) if path.is_file()), None)
        if found is None:
            raise ValueError(f"no file {str(value)!r}, neither in {folder} nor here")
        return found.resolve()

    @model_validator(mode="after")
    def _check(self) -> Self:
        model = self.model
        for name, whole, what in (
            ("tensor_parallel", model.heads, "attention heads"),
            ("expert_parallel", self._experts, "experts"),
        ):
            ways = getattr(self, name)
            if ways > 1 and whole % ways:
                allowed = ", ".join(str(n) for n in range(1, min(whole, 64) + 1) if whole % n == 0) or "1"
                raise FieldError(name, f"{ways} does not divide the {whole} {what}; allowed: {allowed}")
        if self.expert_parallel > 1 and (self.tensor_parallel * self.data_parallel) % self.expert_parallel:
            raise FieldError(
                "expert_parallel",
                f"{self.expert_parallel} does not divide the {self.tensor_parallel * self.data_parallel} "
                "accelerators of a stage (tensor_parallel x data_parallel)",
            )
        if self.pipeline_parallel > model.layers:
            raise FieldError(
                "pipeline_parallel", f"{self.pipeline_parallel} exceeds the {model.layers} layers"
            )
        return self

    @property
    def _experts(self) -> int:
        return self.model.experts.experts if self.model.experts else 1

    @property
    def accelerators_per_replica(self) -> int:
        """Accelerators of one replica."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def accelerators(self) -> int:
        """Accelerators of the whole service."""
        return self.replicas * self.accelerators_per_replica

    def policies(self) -> tuple[Any, ...]:
        """Return the policies of the service."""
        return self.batching, self.router, self.admission
