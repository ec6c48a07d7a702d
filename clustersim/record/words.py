"""Numbers and settings in words: the same in the terminal, in reports and in the explorer. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from clustersim.record.summary import BY_NAME

_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TIMES: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def quantity(name: str, value: float) -> str:
    """Write a metric's value with its unit, to three digits; a dash where it is not a number.

    >>> quantity("ttft_p99_s", 0.0421), quantity("slo_attainment_share", 0.987), quantity("energy_j", 5.2e6)
    ('42.1 ms', '98.7%', '5.2 MJ')
    """
    unit = BY_NAME[name].unit if name in BY_NAME else ""
    if value is None or math.isnan(value):
        return "–"
    if unit == "s":
        return seconds(value)
    if unit == "share":
        return share(value)
    if unit in ("J", "W"):
        return _with_prefix(value, unit)
    return f"{digits(value)} {unit}".rstrip()


def share(value: float) -> str:
    """Write a share in percent; what is not quite all or nothing is not rounded to it.

    >>> share(1.0), share(0.9998), share(0.98765)
    ('100%', '>99.9%', '98.8%')
    """
    if round(value, 9) in (0.0, 1.0):
        return f"{value:.0%}"
    return "<0.1%" if 0.0 < value < 0.0005 else ">99.9%" if 0.9995 <= value < 1.0 else f"{value:.1%}"


def seconds(value_s: float) -> str:
    """Write a time to three digits: from microseconds to seconds, thousands apart.

    >>> seconds(0.0), seconds(2.5e-5), seconds(86400.0)
    ('0 s', '25 µs', '86,400 s')
    """
    size, unit = next((x for x in _TIMES if abs(value_s) >= x[0] * 0.9995), _TIMES[-1])
    return f"{digits(value_s / size)} {unit}" if value_s else "0 s"


def digits(value: float) -> str:
    """Write a number to three digits, whole from a hundred on.

    >>> digits(3.14159), digits(1234567.8), digits(0.00012)
    ('3.14', '1,234,568', '0.00012')
    """
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _with_prefix(value: float, unit: str) -> str:
    size, prefix = next((x for x in _PREFIXES if abs(value) >= x[0] * 0.9995), (1.0, ""))
    return f"{digits(value / size)} {prefix}{unit}"


def limits(slo: Mapping[str, float | None] | None) -> str:
    """Write the limits of an SLO.

    >>> limits({"ttft_s": 0.5, "tpot_s": None})
    'TTFT ≤ 500 ms'
    """
    set_ = {name: limit for name, limit in (slo or {}).items() if limit is not None}
    return ", ".join(f"{name.removesuffix('_s').upper()} ≤ {seconds(limit)}" for name, limit in set_.items())


def setting(value: Any) -> str:
    """Write the value of a field in a few characters.

    >>> setting({"kind": "chunked", "token_budget": 512}), setting(4.0), setting(None)
    ('chunked token_budget=512', '4', 'none')
    """
    if isinstance(value, Mapping):
        rest = [f"{k}={setting(v)}" for k, v in value.items() if k != "kind" and v is not None]
        return " ".join([*([str(value["kind"])] if value.get("kind") else []), *rest])
    if isinstance(value, float) and not math.isnan(value):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value))
    return "none" if value is None else str(value)


def settings(point: Mapping[str, Any]) -> str:
    """Write the swept fields of a point, each by the last part of its path.

    >>> settings({"serving.batching": "chunked", "workload.rate": 4.0})
    'batching chunked, rate 4'
    """
    return ", ".join(f"{path.rpartition('.')[2]} {setting(value)}" for path, value in point.items())
