"""What a serving load is: who asks for how much, and when. Descriptions only; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from clustersim.errors import FieldError, choices
from clustersim.policies.base import ArrivalShape
from clustersim.policies.registry import by_name
from clustersim.spec.base import Spec, card_data, card_files, catalogue_folder
from clustersim.units import PerSecond, Seconds

CARDS = "workloads/serving"
TRACES = "workloads/traces"


@dataclass(frozen=True, slots=True)
class one_of:  # noqa: N801  (reads as a word in annotations)
    """Lets a field hold one of several models, told apart by ``kind``; mistakes keep the field's own path."""

    models: tuple[type[Spec], ...]
    default: str | None = None
    expand: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._read, handler(source))

    def class_for(self, data: Any) -> type[Spec] | None:
        """Return the model that the plain data of a field chooses, if there is one."""
        try:
            data = self.expand(data) if self.expand else data
        except ValueError:
            return None
        return self._kinds().get(data.get("kind", self.default)) if isinstance(data, Mapping) else None

    def _kinds(self) -> dict[str, type[Spec]]:
        return {str(model.model_fields["kind"].default): model for model in self.models}

    def _read(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, self.models):
            return value
        fields = self.expand(value) if self.expand else value
        kinds = self._kinds()
        if not isinstance(fields, Mapping):
            raise ValueError(f"{value!r} is not a mapping with a 'kind'; {choices(str(value), kinds)}")
        kind = fields.get("kind", self.default)
        if kind is None:
            raise ValueError(f"needs a 'kind'; {choices('', kinds)}")
        if not isinstance(kind, str) or kind not in kinds:
            raise FieldError("kind", f"unknown kind {kind!r}; {choices(str(kind), kinds)}")
        return kinds[kind].model_validate({**fields, "kind": kind}, context=info.context)


def find_file(value: Path, info: ValidationInfo) -> Path:
    """Return where *value* lies: beside the spec, here, or among the catalogue's traces; else ValueError."""
    folder = Path((info.context or {}).get("folder") or Path())
    for path in (folder / value, value, catalogue_folder(TRACES) / value):
        if path.exists():
            return path.resolve()
    raise ValueError(
        f"no file {str(value)!r}: not in {folder}, not here, and not in the catalogue's {TRACES}"
    )


class Bounded(Spec):
    """A length in tokens; what is drawn outside *min* and *max* is moved to the nearer of them."""

    min: PositiveInt = 1
    max: PositiveInt | None = None

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """The bounds must be in order."""
        if self.max is not None and self.max < self.min:
            raise FieldError("max", f"{self.max} is below min, {self.min}")
        return self


class Fixed(Spec):
    """Every length is the same; a bare number means this."""

    kind: Literal["fixed"] = "fixed"
    tokens: Annotated[int, Field(gt=0, lt=2**31)]


class Lognormal(Bounded):
    """The usual shape of prompts: mean or median, and sigma (of the logarithm) or the 99th percentile."""

    kind: Literal["lognormal"] = "lognormal"
    mean: PositiveFloat | None = None
    median: PositiveFloat | None = None
    sigma: NonNegativeFloat | None = None
    p99: PositiveFloat | None = None

    @model_validator(mode="after")
    def determined(self) -> Self:
        """Two numbers determine the distribution: no fewer, no more."""
        if (self.mean is None) == (self.median is None):
            raise FieldError("mean", "give either mean or median")
        if (self.sigma is None) == (self.p99 is None):
            raise FieldError("sigma", "give either sigma or p99")
        centre = self.mean or self.median or 0.0
        if self.p99 is not None and not centre <= self.p99 < 14.9 * centre:
            raise FieldError("p99", f"{self.p99:g} must lie between 1 and 14.9 times {centre:g}")
        return self


class Zipf(Spec):
    """Lengths from *min* to *max*, the k-th of them with a probability proportional to k**-theta."""

    kind: Literal["zipf"] = "zipf"
    min: PositiveInt
    max: PositiveInt
    theta: NonNegativeFloat = 0.6

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """The bounds must be in order."""
        if self.max < self.min:
            raise FieldError("max", f"{self.max} is below min, {self.min}")
        return self


class Uniform(Spec):
    """Every whole number from *low* to *high*, both included, is as likely as any other."""

    kind: Literal["uniform"] = "uniform"
    low: PositiveInt
    high: PositiveInt

    @model_validator(mode="after")
    def ordered(self) -> Self:
        """The bounds must be in order."""
        if self.high < self.low:
            raise FieldError("high", f"{self.high} is below low, {self.low}")
        return self


class Exponential(Bounded):
    """An exponential length of this *mean*, rounded to whole tokens, at least one."""

    kind: Literal["exponential"] = "exponential"
    mean: PositiveFloat


class Geometric(Bounded):
    """A length of this *mean* that ends at each token with the same probability."""

    kind: Literal["geometric"] = "geometric"
    mean: Annotated[float, Field(ge=1)]


class Empirical(Bounded):
    """Lengths drawn from a list of *values* (with *weights*), or from a *column* of a table file."""

    kind: Literal["empirical"] = "empirical"
    values: tuple[PositiveInt, ...] = ()
    weights: tuple[NonNegativeFloat, ...] = ()
    file: Path | None = None
    column: str | None = None

    @field_validator("file")
    @classmethod
    def found(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        """The file must exist."""
        return None if value is None else find_file(value, info)

    @model_validator(mode="after")
    def determined(self) -> Self:
        """The lengths come from one place."""
        if bool(self.values) == (self.file is not None):
            raise FieldError("values", "give either values or a file and its column")
        if (self.file is None) != (self.column is None):
            raise FieldError("column", "file and column go together")
        if self.weights and (len(self.weights) != len(self.values) or not sum(self.weights)):
            raise FieldError(
                "weights", f"needs {len(self.values)} numbers, one a value, that do not add up to 0"
            )
        return self


class Quantiles(Spec):
    """Straight lines between quantiles: the usual way to publish lengths (p50, p90, p99)."""

    kind: Literal["quantiles"] = "quantiles"
    points: tuple[tuple[float, float], ...] = Field(
        description="Pairs of a share and the tokens that this share does not exceed."
    )

    @model_validator(mode="after")
    def complete(self) -> Self:
        """The shares go from 0 to 1, and the tokens do not fall."""
        shares, tokens = [share for share, _ in self.points], [tokens for _, tokens in self.points]
        if len(shares) < 2 or shares[0] != 0 or shares[-1] != 1 or any(b <= a for a, b in pairwise(shares)):
            raise FieldError("points", f"the shares must rise from 0 to 1, not {', '.join(map(str, shares))}")
        if tokens[0] < 1 or any(b < a for a, b in pairwise(tokens)):
            raise FieldError("points", "the tokens must be at least 1 and not fall")
        return self


def _tokens(value: Any) -> Any:
    return (
        {"kind": "fixed", "tokens": value}
        if isinstance(value, int) and not isinstance(value, bool)
        else value
    )


_SIMPLE = (Fixed, Lognormal, Quantiles, Zipf, Uniform, Exponential, Geometric, Empirical)
Simple: TypeAlias = Annotated[
    Fixed | Lognormal | Quantiles | Zipf | Uniform | Exponential | Geometric | Empirical,
    one_of(_SIMPLE, expand=_tokens),
]


class Part(Spec):
    """A share of a mixture; the shares need not add up to one."""

    share: PositiveFloat
    length: Simple


class Mixture(Spec):
    """Lengths of several kinds, each request's kind drawn by the shares (two humps, for example)."""

    kind: Literal["mixture"] = "mixture"
    parts: tuple[Part, ...]

    @model_validator(mode="after")
    def not_empty(self) -> Self:
        """There is something to mix."""
        if not self.parts:
            raise FieldError("parts", "needs at least one part")
        return self


Length: TypeAlias = Annotated[
    Fixed | Lognormal | Quantiles | Zipf | Uniform | Exponential | Geometric | Empirical | Mixture,
    one_of((*_SIMPLE, Mixture), expand=_tokens),
]


class Arrivals(Spec):
    """When requests come: the gaps' distribution, at a steady *rate* or along a *shape* over time."""

    process: Literal["poisson", "gamma", "weibull", "deterministic"] = "poisson"
    cv: Annotated[float, Field(ge=0.05, le=50)] | None = Field(
        None, description="Standard deviation of the gaps over their mean; for gamma and weibull."
    )
    rate: Annotated[PerSecond, Field(gt=0)] | None = None
    shape: Annotated[SerializeAsAny[ArrivalShape], by_name(ArrivalShape)] | None = None

    @model_validator(mode="after")
    def determined(self) -> Self:
        """One rate, and a coefficient of variation only where it is free."""
        if (self.rate is None) == (self.shape is None):
            raise FieldError("rate", "give either a rate or a shape")
        if (self.cv is None) == (self.process in ("gamma", "weibull")):
            raise FieldError("cv", "gamma and weibull need a cv; poisson has 1 and deterministic 0")
        return self


class Load(Spec):
    """What every load has, drawn or read."""

    requests: PositiveInt | None = Field(None, description="How many requests, at most.")
    duration: Annotated[Seconds, Field(gt=0)] | None = Field(
        None, description="For how long requests arrive."
    )
    concurrency: PositiveInt | None = Field(
        None, description="Closed loop: so many requests at a time; a new one starts when one ends."
    )
    think: Seconds = Field(0.0, description="Closed loop: pause between an answer and the next request.")
    arrivals: Arrivals | None = None
    limit: PositiveInt | None = Field(
        None, description="Most output tokens a client allows; longer answers end there."
    )
    too_long: Literal["error", "drop", "clip"] = Field(
        "error", description="What to do with requests that exceed the model's context."
    )

    def _one(self, *names: str) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise FieldError(given[1], f"{' and '.join(given)} exclude each other; keep one")

    @model_validator(mode="after")
    def closed(self) -> Self:
        """A closed loop counts requests, and only a closed loop thinks."""
        if self.think and self.concurrency is None:
            raise FieldError("think", "belongs to a closed loop; give concurrency too")
        return self


class Synthetic(Load):
    """A load drawn from distributions.

    Exactly one of: *rate* (Poisson arrivals, the short spelling), *arrivals* (any other process),
    *concurrency* (a closed loop).
    """

    kind: Literal["synthetic"] = "synthetic"
    rate: Annotated[PerSecond, Field(gt=0)] | None = Field(None, description="Poisson arrivals at this rate.")
    prompt: Length
    output: Length
    tenants: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="Shares of the requests by tenant."
    )

    @model_validator(mode="after")
    def determined(self) -> Self:
        """One way to arrive, and an end."""
        self._one("rate", "arrivals", "concurrency")
        if self.rate is None and self.arrivals is None and self.concurrency is None:
            raise FieldError("rate", "give a rate (Poisson), arrivals, or concurrency (closed loop)")
        if self.requests is None and self.duration is None:
            raise FieldError("requests", "give requests, a duration, or both (the first to end counts)")
        if self.concurrency is not None and (self.requests is None or self.duration is not None):
            raise FieldError("requests", "a closed loop ends by number: give requests and no duration")
        return self


TraceFormat: TypeAlias = Literal[
    "csv", "azure-2023", "azure-2024", "burstgpt", "mooncake", "servegen", "sharegpt", "vidur"
]
TimeUnit: TypeAlias = Literal["s", "ms", "us", "100ns", "ns"]
TraceColumn: TypeAlias = Literal["arrival", "prompt", "output", "tenant"]


class Trace(Load):
    """A recorded load, read from a file.

    Arrivals are those of the file, stretched by *speed* or to a mean *rate*; or drawn anew by
    *poisson_rate* or *arrivals*; or a closed loop by *concurrency*. One of these at most.
    """

    kind: Literal["trace"] = "trace"
    file: Path
    format: TraceFormat | None = Field(None, description="Found by the file's columns if not given.")
    columns: dict[TraceColumn, str] = Field(
        default_factory=dict, description="Names of a foreign file's columns."
    )
    time_unit: TimeUnit | None = Field(None, description="Unit of numeric stamps, if not the format's own.")
    start: Seconds = Field(0.0, description="Skip what comes earlier after the first arrival.")
    speed: PositiveFloat | None = Field(None, description="2 plays the trace twice as fast.")
    rate: Annotated[PerSecond, Field(gt=0)] | None = Field(None, description="Stretch to this mean rate.")
    poisson_rate: Annotated[PerSecond, Field(gt=0)] | None = Field(
        None, description="Keep the lengths, in order, and draw Poisson arrivals."
    )
    spread: Seconds | None = Field(
        None, description="Spread arrivals that share a stamp over this time; mooncake's own step, else none."
    )
    tenants: tuple[str, ...] = Field((), description="Keep only the requests of these tenants.")
    zero_tokens: Literal["error", "drop"] = Field("error", description="Rows with an empty prompt or output.")
    scale_prompt: PositiveFloat = 1.0
    scale_output: PositiveFloat = 1.0

    @field_validator("file")
    @classmethod
    def found(cls, value: Path, info: ValidationInfo) -> Path:
        """The file must exist."""
        return find_file(value, info)

    @model_validator(mode="after")
    def determined(self) -> Self:
        """At most one way to change the arrivals."""
        self._one("speed", "rate", "poisson_rate", "arrivals", "concurrency")
        if self.columns and self.format not in (None, "csv"):
            raise FieldError("columns", f"the format {self.format} has its own column names; use format: csv")
        if self.columns and not {"prompt", "output"} <= self.columns.keys():
            raise FieldError("columns", "must name at least prompt and output")
        return self


def _named(value: Any) -> Any:
    """Complete ``{kind: chat, rate: 8 /s}`` by the card ``chat``: the written fields win."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind in ("synthetic", "trace"):
        return value
    if kind not in card_files(CARDS):
        known = ["synthetic", "trace", *card_files(CARDS)]
        raise ValueError(f"unknown kind {kind!r}; {choices(kind, known)}")
    written = {key: field for key, field in value.items() if key != "kind"}
    ways = {"rate", "arrivals", "concurrency", "speed", "poisson_rate"}
    dropped = ways if ways & written.keys() else set()
    return {k: v for k, v in card_data(CARDS, kind).items() if k not in dropped} | written


Workload: TypeAlias = Annotated[
    Synthetic | Trace, one_of((Synthetic, Trace), default="synthetic", expand=_named)
]


def load_workload(name: str) -> Synthetic | Trace:
    """Return the catalogue's load *name*; raise UnknownNameError if there is none."""
    adapter: TypeAdapter[Synthetic | Trace] = TypeAdapter(Workload)
    return adapter.validate_python(card_data(CARDS, name), context={"needs_units": True})
