"""SI units: inside the package every quantity is a plain number in its base unit.

Seconds, bytes, bytes per second, FLOP per second, watts, joules. Units are written
only at the edge: files say ``"400 Gb/s"``, Python may say ``50 * GB`` or the same text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

us: Final = 1e-6
ms: Final = 1e-3
minute: Final = 60.0
hour: Final = 3600.0
kB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KiB, MiB, GiB, TiB = 2.0**10, 2.0**20, 2.0**30, 2.0**40
TFLOPS: Final = 1e12
kW, MW = 1e3, 1e6
kWh: Final = 3.6e6

_SI = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BYTES = {f"{p}B": f for p, f in _SI.items()} | {"KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}

DIMENSIONS: Final[dict[str, dict[str, float]]] = {
    "time": {"ns": 1e-9, "us": us, "µs": us, "ms": ms, "s": 1.0, "min": minute, "h": hour, "d": 24 * hour},
    "size": _BYTES,
    "bandwidth": {f"{u}/s": f for u, f in _BYTES.items()}
    | {f"{p}{b}/s": f / 8 for p, f in _SI.items() for b in ("b", "bit")},
    "compute": {f"{p}FLOP/s": f for p, f in _SI.items()} | {f"{p}OP/s": f for p, f in _SI.items()},
    "power": {f"{p}W": f for p, f in _SI.items()},
    "energy": {f"{p}J": f for p, f in _SI.items()} | {f"{p}Wh": hour * f for p, f in _SI.items()},
    "rate": {"/s": 1.0, "/min": 1 / minute, "/h": 1 / hour, "/d": 1 / (24 * hour)},
    "frequency": {f"{p}Hz": f for p, f in _SI.items()},
    "price": {"$/h": 1.0, "$/d": 1 / 24, "$/month": 1 / 730},
}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


def parse(text: str, dimension: str) -> float:
    """Turn a number with its unit into the base unit of *dimension*; raise ValueError otherwise.

    >>> parse("400 Gb/s", "bandwidth")
    50000000000.0
    """
    units = DIMENSIONS[dimension]
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not a {dimension}; write a number and one of: {', '.join(units)}")
    return float(match[1]) * units[match[2]]


@dataclass(frozen=True, slots=True)
class Unit:
    """Marks a pydantic field as a quantity: text is parsed, and in files a bare number is refused.

    Quantities are finite and not negative; a field that must be positive adds ``Field(gt=0)``.
    """

    dimension: str
    example: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "type": "string",
            "examples": [self.example],
            "description": f"A {self.dimension}, with its unit.",
        }

    def _read(self, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            number = parse(value, self.dimension)
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{value!r} is not a {self.dimension}; write for example {self.example!r}")
        elif (info.context or {}).get("needs_units"):
            raise ValueError(f"{value!r} needs a unit, for example {self.example!r}")
        else:
            number = float(value)
        if not math.isfinite(number) or number < 0:
            raise ValueError(f"{value!r} is not allowed: a {self.dimension} is finite and not negative")
        return number


Seconds = Annotated[float, Unit("time", "5 ms")]
Bytes = Annotated[float, Unit("size", "80 GiB")]
BytesPerSecond = Annotated[float, Unit("bandwidth", "400 Gb/s")]
FlopPerSecond = Annotated[float, Unit("compute", "989 TFLOP/s")]
Watts = Annotated[float, Unit("power", "700 W")]
Joules = Annotated[float, Unit("energy", "1 kWh")]
PerSecond = Annotated[float, Unit("rate", "4 /s")]
Hertz = Annotated[float, Unit("frequency", "1980 MHz")]
DollarsPerHour = Annotated[float, Unit("price", "2.5 $/h")]
