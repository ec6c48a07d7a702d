"""What jobs a cluster gets: drawn from distributions, or read from a trace. Descriptions only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from clustersim.errors import FieldError
from clustersim.spec.base import Spec
from clustersim.spec.workload import find_file, one_of
from clustersim.units import PerSecond, Seconds

CARDS = "workloads/jobs"


class SizeClass(Spec):
    """Jobs of one size: how many of all, how large, how long (lognormal)."""

    weight: PositiveFloat = Field(description="Share of the jobs; shares need not add up to one.")
    accelerators: PositiveInt
    share: float = Field(1.0, gt=0, le=1, description="Of the one accelerator, for jobs of less than one.")
    median: Annotated[Seconds, Field(gt=0)]
    sigma: NonNegativeFloat = Field(1.5, description="Standard deviation of the duration's logarithm.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.share < 1 and self.accelerators > 1:
            raise FieldError("share", "belongs to jobs on one accelerator")
        return self


class SyntheticJobs(Spec):
    """Jobs that arrive at random, in bursts if *cv* exceeds 1, at a rate that follows the hour of day."""

    kind: Literal["synthetic"] = "synthetic"
    jobs: PositiveInt
    rate: Annotated[PerSecond, Field(gt=0)]
    cv: float = Field(1.0, ge=0.05, le=50, description="Standard deviation of the gaps over their mean.")
    daily: float = Field(0.0, ge=0, lt=1, description="How far the rate swings about its mean over a day.")
    sizes: tuple[SizeClass, ...] = Field(min_length=1)
    longest: Annotated[Seconds, Field(gt=0)] = Field(1_209_600.0, description="Durations are cut here.")
    queues: dict[str, PositiveFloat] = Field(default_factory=dict, description="Shares by virtual cluster.")
    users: PositiveInt = Field(1, description="How many; the k-th submits in proportion to 1 / k.")
    estimate_error: NonNegativeFloat = Field(
        0.0, description="Sigma of the factor by which estimates miss, lognormal about 1."
    )
    failed: float = Field(0.0, ge=0, lt=1, description="Share of jobs that end as failed.")
    elastic: float = Field(0.0, ge=0, le=1, description="Share of jobs that run on half to twice their size.")


JobFormat: TypeAlias = Literal[
    "acme", "fleetsim", "gavel", "helios", "jobs", "muri", "openb-2023", "pai-2020",
    "philly", "philly-json", "pollux", "sacct", "swf", "tiresias",
]  # fmt: skip


class JobTrace(Spec):
    """Jobs read from a trace."""

    kind: Literal["trace"] = "trace"
    file: Path
    format: JobFormat | None = Field(None, description="Found by the file's columns if not given.")
    queues: tuple[str, ...] = Field((), description="Keep only these virtual clusters.")
    one_pool: bool = Field(False, description="Forget virtual clusters: all jobs share one pool.")
    start: Seconds = Field(0.0, description="Skip what was submitted earlier.")
    end: Seconds | None = Field(None, description="Skip what was submitted later.")
    jobs: PositiveInt | None = Field(None, description="How many jobs at most.")
    speed: PositiveFloat = Field(1.0, description="2 submits twice as fast; durations stay.")
    attempts: Literal["sum", "last"] = Field(
        "sum", description="Philly's log: which attempts make the duration."
    )
    oversized: Literal["error", "drop"] = Field("error", description="Jobs that their pool cannot hold.")

    @field_validator("file")
    @classmethod
    def found(cls, value: Path, info: ValidationInfo) -> Path:
        """The file must exist."""
        return find_file(value, info)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise FieldError("end", f"{self.end:g} s is not after the start, {self.start:g} s")
        return self


JobList: TypeAlias = Annotated[SyntheticJobs | JobTrace, one_of((SyntheticJobs, JobTrace))]
