"""A training run as its plan: how a batch and a model are cut over accelerators. No prices, no clock.

A plan names the ranks of every dimension, the pipeline's schedule, what is sharded, recomputed and offloaded,
and in which formats numbers are held. The number of accelerators is the product data x tensor x pipeline
stages x context; expert-parallel ranks are taken from the data and context (and tensor) ranks of a stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from clustersim.errors import FieldError, choices
from clustersim.spec.base import Spec, card
from clustersim.spec.efficiency import FOLDER as EFFICIENCY_CARDS
from clustersim.spec.efficiency import Efficiency
from clustersim.spec.model import Model
from clustersim.spec.training_stack import FOLDER as STACK_CARDS
from clustersim.spec.training_stack import Overlap, TrainingStack, load_training_stack

Schedule = Literal["gpipe", "1f1b", "interleaved", "zb-h1", "zb-1p", "zb-2p", "dualpipe"]
Dimension = Literal["tensor", "context", "data", "pipeline"]
Optimizer = Literal["adam", "adam-8bit", "adafactor", "muon", "sgd"]
Compute = Literal["bf16", "fp16", "fp8", "fp4"]
Recomputation = Literal["none", "selective", "full"]

STATE_BYTES: Final[Mapping[str, float]] = MappingProxyType(
    {"adam": 8.0, "adam-8bit": 2.0, "adafactor": 0.0, "muon": 4.0, "sgd": 4.0}
)
"""Bytes of state of one parameter beside its master copy.

Two fp32 moments (published, ZeRO, arXiv 1910.02054); two 8-bit moments, their block scales neglected
(published, arXiv 2110.02861); rows and columns alone, neglected (published, arXiv 1804.04235); one fp32
momentum (published: Muon, arXiv 2502.16982; the embeddings' second moments are neglected).
"""


class Pipeline(Spec):
    """How the layers are cut into stages, and in which order a stage works; a bare number means stages."""

    stages: PositiveInt = 1
    schedule: Schedule = "1f1b"
    chunks: PositiveInt = Field(1, description="Pieces of the model that a stage holds, interleaved.")
    layers: tuple[NonNegativeInt, ...] = Field((), description="Of each stage; by default as even as can be.")

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"stages": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.chunks > 1 and self.schedule != "interleaved":
            raise FieldError("chunks", f"{self.chunks} chunks need schedule: interleaved")
        if self.schedule == "interleaved" and self.stages == 1 and self.chunks > 1:
            raise FieldError("chunks", "one stage has nothing to interleave; allowed: 1")
        if self.layers and len(self.layers) != self.stages:
            raise FieldError("layers", f"{len(self.layers)} numbers for {self.stages} stages")
        return self

    def spread(self, layers: int) -> tuple[int, ...]:
        """Return the layers of each stage; what is left over goes to the stages before the last.

        >>> Pipeline(stages=4).spread(10)
        (3, 3, 2, 2)
        """
        if self.layers:
            return self.layers
        each, extra = divmod(layers, self.stages)
        return tuple(each + (stage < extra) for stage in range(self.stages))


class Sharding(Spec):
    """What the data-parallel ranks hold once instead of each; a stage 0 to 3, or ``fsdp`` for 3."""

    stage: Literal[0, 1, 2, 3] = 0
    group: PositiveInt | None = Field(
        None, description="Ranks that share one copy (hybrid sharding); by default all data ranks."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            words = {"none": 0, "fsdp": 3, "hsdp": 3, "distributed-optimizer": 1}
            if value not in words:
                raise ValueError(f"unknown sharding {value!r}; {choices(value, words)}")
            return {"stage": words[value]}
        return {"stage": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Recipe(Spec):
    """In which formats a run computes and holds numbers; one word such as ``fp8`` stands for all."""

    compute: Compute = "bf16"
    gradients: Literal["fp32", "bf16"] = Field("fp32", description="Held, accumulated and reduced in.")
    master: bool = Field(True, description="A 32-bit copy of the weights for the optimizer.")
    fp8_parameters: bool = Field(False, description="The copy that is gathered and multiplied has 8 bits.")

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {"compute": value} if isinstance(value, str) else value

    @property
    def gradient_bytes(self) -> float:
        """Bytes of one gradient."""
        return 4.0 if self.gradients == "fp32" else 2.0

    @property
    def parameter_bytes(self) -> float:
        """Bytes of one weight as it is multiplied."""
        return 1.0 if self.fp8_parameters else 2.0


class Offload(Spec):
    """Which shares of the memory lie on the host instead."""

    optimizer: float = Field(0.0, ge=0, le=1)
    parameters: float = Field(0.0, ge=0, le=1)
    activations: float = Field(0.0, ge=0, le=1)


class Lora(Spec):
    """Low-rank adapters are trained; the base model is frozen."""

    rank: PositiveInt
    targets: Literal["attention", "all"] = Field("all", description="Which projections have adapters.")


class Plan(Spec):
    """How one training step is spread over accelerators."""

    data_parallel: PositiveInt = 1
    tensor_parallel: PositiveInt = 1
    context_parallel: PositiveInt = Field(1, description="Ranks that share a sequence's tokens.")
    expert_parallel: PositiveInt = Field(1, description="Groups of a stage that hold different experts.")
    expert_tensor_parallel: PositiveInt = Field(1, description="Ranks that share one expert.")
    pipeline: Pipeline = Pipeline()
    sequence_parallel: bool = Field(False, description="Norms split the tokens over tensor ranks.")
    sharding: Sharding = Sharding()
    microbatch: PositiveInt = Field(1, description="Sequences of a forward pass of one replica.")
    global_batch: PositiveInt = Field(description="Sequences of a step of all replicas.")
    sequence_tokens: PositiveInt
    recompute: Recomputation = "none"
    recompute_layers: PositiveInt | None = Field(None, description="Of a stage, if full but not all.")
    precision: Recipe = Recipe()
    optimizer: Optimizer = "adam"
    offload: Offload = Offload()
    overlap: Overlap | None = Field(None, description="Instead of what the stack overlaps.")
    lora: Lora | None = None
    order: tuple[Dimension, ...] = Field(
        ("tensor", "context", "data", "pipeline"), description="Dimensions from neighbours outwards."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for check in (self._check_batch, self._check_experts, self._check_sharding, self._check_rest):
            check()
        return self

    @property
    def accelerators(self) -> int:
        """Accelerators that the plan needs."""
        return self.data_parallel * self.tensor_parallel * self.context_parallel * self.pipeline.stages

    @property
    def microbatches(self) -> int:
        """Forward passes of a replica in one step: the steps of gradient accumulation."""
        return self.global_batch // (self.data_parallel * self.microbatch)

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.global_batch * self.sequence_tokens

    def check_model(self, model: Model) -> None:
        """Raise FieldError if the plan cannot cut *model*."""
        _divides("tensor_parallel", self.tensor_parallel, model.heads, "attention heads")
        experts = model.experts.experts if model.experts else 1
        _divides("expert_parallel", self.expert_parallel, experts, "experts")
        pipeline = self.pipeline
        if pipeline.layers and sum(pipeline.layers) != model.layers:
            raise FieldError(
                "pipeline.layers", f"add up to {sum(pipeline.layers)}, the model has {model.layers} layers"
            )
        if pipeline.stages * pipeline.chunks > model.layers and not pipeline.layers:
            raise FieldError(
                "pipeline.stages",
                f"{pipeline.stages} stages of {pipeline.chunks} chunks leave some without a layer: the model "
                f"has {model.layers}; at most {model.layers // pipeline.chunks} stages",
            )

    def check_cluster(self, accelerators: int) -> None:
        """Raise FieldError if the plan needs more than *accelerators*."""
        if self.accelerators > accelerators:
            rest = self.accelerators // self.data_parallel
            raise FieldError(
                "data_parallel",
                f"the plan needs {self.accelerators} accelerators ({rest} a replica x {self.data_parallel}), "
                f"the cluster has {accelerators}; at most {accelerators // rest or 'none'} of this size fit",
            )

    def _check_batch(self) -> None:
        step = self.data_parallel * self.microbatch
        if self.global_batch % step:
            below = self.global_batch // step * step
            near = f"{below} or {below + step}" if below else f"{step}"
            raise FieldError(
                "global_batch",
                f"{self.global_batch} is not a multiple of data_parallel x microbatch = {step}; "
                f"nearest: {near}",
            )
        stages = self.pipeline.stages
        if self.pipeline.schedule == "interleaved" and self.microbatches % stages:
            below = self.microbatches // stages * stages or stages
            raise FieldError(
                "global_batch",
                f"interleaving needs microbatches in multiples of the {stages} stages, not "
                f"{self.microbatches}; nearest: global_batch {below * step} or {(below + stages) * step}",
            )
        _divides("context_parallel", self.context_parallel, self.sequence_tokens, "tokens of a sequence")

    def _check_experts(self) -> None:
        ranks = self.data_parallel * self.context_parallel * self.tensor_parallel
        if ranks % (self.expert_parallel * self.expert_tensor_parallel):
            raise FieldError(
                "expert_parallel",
                f"{self.expert_parallel} x expert_tensor_parallel {self.expert_tensor_parallel} does not "
                f"divide the {ranks} accelerators of a stage",
            )

    def _check_sharding(self) -> None:
        ranks = self.data_parallel * self.context_parallel
        if self.sharding.group and ranks % self.sharding.group:
            raise FieldError(
                "sharding.group", f"{self.sharding.group} does not divide the {ranks} data-parallel ranks"
            )
        if self.sharding.stage >= 2 and self.pipeline.stages > 1 and self.pipeline.schedule == "gpipe":
            raise FieldError("sharding.stage", "2 and 3 are not combined with gpipe; use 0 or 1")

    def _check_rest(self) -> None:
        if self.sequence_parallel and self.tensor_parallel == 1:
            raise FieldError("sequence_parallel", "needs tensor_parallel of 2 or more")
        if self.recompute_layers and self.recompute != "full":
            raise FieldError("recompute_layers", f"has no effect with recompute: {self.recompute}")
        if sorted(self.order) != ["context", "data", "pipeline", "tensor"]:
            raise FieldError("order", "holds tensor, context, data and pipeline, each once")


class Training(Spec):
    """A model trained by a plan with a software stack."""

    model: Annotated[Model, card("workloads/models")]
    plan: Plan
    stack: Annotated[TrainingStack, card(STACK_CARDS)] = Field(
        default_factory=lambda: load_training_stack("megatron-core-2026")
    )
    efficiency: Annotated[Efficiency, card(EFFICIENCY_CARDS)] | None = Field(
        None, description="Curves of the accelerator's kernels; by default those of its generation."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            self.plan.check_model(self.model)
        except FieldError as error:
            raise FieldError(f"plan.{error.path}", str(error)) from None
        return self


def _divides(path: str, ways: int, whole: int, what: str) -> None:
    """Raise FieldError unless *ways* divides *whole*; name the nearest that do."""
    if whole % ways == 0:
        return
    allowed = [n for n in range(1, whole + 1) if whole % n == 0] if whole <= 65536 else [1]
    near = sorted(sorted(allowed, key=lambda n: (abs(n - ways), n))[:3])
    raise FieldError(path, f"{ways} does not divide the {whole} {what}; nearest: {', '.join(map(str, near))}")
