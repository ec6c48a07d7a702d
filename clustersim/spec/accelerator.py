"""An accelerator as its data sheet: dense peaks, memory, links and power."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field

from clustersim.errors import UnknownNameError
from clustersim.spec.base import Spec
from clustersim.spec.source import Source
from clustersim.units import Bytes, BytesPerSecond, DollarsPerHour, FlopPerSecond, Hertz, Watts

Arithmetic = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8"]
Link = Literal["nvlink", "xgmi", "pcie", "ici", "neuronlink", "roce", "hccs", "none"]
Group = Literal["compute", "memory", "link", "host", "network", "power", "idle_power", "price"]

FALLBACK: Final[Mapping[str, tuple[Arithmetic, ...]]] = MappingProxyType(
    {
        "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
        "fp8": ("fp8", "bf16", "fp16", "fp32"),
        "int4": ("int8", "bf16", "fp16", "fp32"),
        "int8": ("int8", "bf16", "fp16", "fp32"),
        "bf16": ("bf16", "fp16", "fp32"),
        "fp16": ("fp16", "bf16", "fp32"),
        "tf32": ("tf32", "fp32"),
        "fp32": ("fp32",),
    }
)
"""What each format is computed in, first choice first: a format that the hardware lacks is widened."""


class Accelerator(Spec):
    """One accelerator: a GPU, a TPU chip or the like.

    Rates are vendors' dense peaks: what structured sparsity would double is halved. Memory is what the
    driver reports or, where that is unknown, the data sheet's number as GiB: vendors write GB for GiB.
    """

    name: str
    vendor: str
    generation: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    """Whose efficiency curves it shares, for example ``hopper``."""
    year: int = Field(ge=2010, le=2040)
    compute: dict[Arithmetic, FlopPerSecond] = Field(min_length=1)
    """Dense peak of matrix arithmetic by input format."""
    memory: Annotated[Bytes, Field(gt=0)]
    memory_bandwidth: Annotated[BytesPerSecond, Field(gt=0)]
    cache: Bytes | None = None
    """The last cache before memory."""
    processors: int | None = Field(None, gt=0)
    """Streaming multiprocessors, compute units or cores."""
    clock: Hertz | None = None
    """The highest clock; vendors state the peaks of some cards at a lower one."""
    link: Link = "none"
    link_bandwidth: BytesPerSecond = 0.0
    """Scale-up bandwidth to all peers together, one direction."""
    host_bandwidth: BytesPerSecond = 0.0
    """To host memory, one direction."""
    network_bandwidth: BytesPerSecond = 0.0
    """A typical share of the scale-out network, one direction."""
    power: Annotated[Watts, Field(gt=0)]
    """The board's power limit."""
    idle_power: Watts
    price_per_hour: DollarsPerHour | None = None
    note: str = ""
    sources: dict[Group, Source] = Field(default_factory=dict)

    def flop_per_s(self, number_format: str) -> float:
        """Return the dense peak for *number_format*, or for the next wider format that the hardware has.

        Raises UnknownNameError for a format that cannot be computed at all.
        """
        for name in FALLBACK.get(number_format, ()):
            if name in self.compute:
                return self.compute[name]
        raise UnknownNameError(f"number format of {self.name}", number_format, self.compute)
