"""What the requests table says without saying it: latencies, and who met the SLO. Pure numpy, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from clustersim.errors import UnknownNameError


class Columns(Protocol):
    """A table by its columns: a mapping from name to array, or a DataFrame."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column."""


LATENCIES: Final = ("ttft_s", "tpot_s", "e2e_s", "queue_s")
"""The latencies of a request that ``latencies`` derives; an SLO may limit any of them."""


def latencies(requests: Columns) -> dict[str, np.ndarray]:
    """Derive each request's latencies; a request of one token has no time per output token (NaN)."""
    arrival_s, first_s, finish_s = (_floats(requests, c) for c in ("arrival_s", "first_token_s", "finish_s"))
    later_tokens = _floats(requests, "output_tokens") - 1
    tpot_s = np.full(len(arrival_s), np.nan)
    np.divide(finish_s - first_s, later_tokens, out=tpot_s, where=later_tokens > 0)
    return {
        "ttft_s": first_s - arrival_s,
        "tpot_s": tpot_s,
        "e2e_s": finish_s - arrival_s,
        "queue_s": _floats(requests, "admitted_s") - arrival_s,
    }


def finished(requests: Columns) -> np.ndarray:
    """Tell which requests got all their tokens."""
    return np.asarray(np.asarray(requests["status"]) == "finished")


def limits(slo: Mapping[str, float | None] | None) -> dict[str, float]:
    """Return the limits that *slo* sets; raise UnknownNameError for one that is no latency of a request."""
    for name in slo or {}:
        if name not in LATENCIES:
            raise UnknownNameError("limit of the SLO", name, LATENCIES)
    return {name: float(limit) for name, limit in (slo or {}).items() if limit is not None}


def meets(requests: Columns, slo: Mapping[str, float | None] | None) -> np.ndarray:
    """Tell which requests finished within every limit of *slo*; what a request lacks cannot be late."""
    values, met = latencies(requests), finished(requests)
    for name, limit_s in limits(slo).items():
        met = met & ~(values[name] > limit_s)
    return met


def _floats(requests: Columns, column: str) -> np.ndarray:
    return np.asarray(requests[column], dtype=np.float64)
