"""Draw arrival times: a renewal process of rate one, carried onto the clock by the rate's integral.

Why: changing the rate or its shape then moves the same arrivals, instead of drawing other ones.
The process starts as if it had always run (its first gap is a residual), so the expected number of
arrivals in any time is the integral of the rate over that time, however bursty the gaps are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from clustersim.errors import PolicyError, Problem, SpecError
from clustersim.policies.arrival import Stepped
from clustersim.policies.base import ArrivalShape
from clustersim.spec.workload import Arrivals
from clustersim.workload.purposes import Purposes

MOST_REQUESTS = 200_000_000
_FIRST_S, _LONGEST_S = 600.0, 100 * 86_400.0
_FEWEST_CELLS, _MOST_CELLS = 2**16, 2**22


@dataclass(frozen=True, slots=True)
class Renewal:
    """Gaps of mean one; *shape* is that of the gamma or Weibull distribution."""

    process: str
    shape: float = 1.0

    @classmethod
    def of(cls, arrivals: Arrivals) -> Renewal:
        """Return the gaps that a description means."""
        cv = arrivals.cv or 1.0
        return cls(arrivals.process, weibull_shape(cv) if arrivals.process == "weibull" else cv**-2)

    def gaps(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw *count* gaps."""
        if self.process == "poisson":
            return rng.standard_exponential(count)
        if self.process == "gamma":
            return rng.standard_gamma(self.shape, count) / self.shape
        if self.process == "weibull":
            gaps: np.ndarray = rng.standard_exponential(count) ** (1 / self.shape)
            return gaps / math.gamma(1 + 1 / self.shape)
        return np.ones(count)

    def first(self, rng: np.random.Generator) -> float:
        """Draw the time to the first arrival: part of a gap, and longer gaps are met more often."""
        if self.process == "deterministic":
            return 0.0
        if self.process == "poisson":
            return float(rng.standard_exponential())
        part = float(rng.random())
        if self.process == "gamma":
            return part * float(rng.standard_gamma(self.shape + 1)) / self.shape
        power = 1 / self.shape
        return float(part * rng.standard_gamma(1 + power) ** power / math.gamma(1 + power))


def arrival_times(
    arrivals: Arrivals, purposes: Purposes, count: int | None, duration_s: float | None
) -> np.ndarray:
    """Return arrival times in seconds: *count* of them, or those within *duration_s*, whichever is less."""
    rng, renewal = purposes.rng("arrivals"), Renewal.of(arrivals)
    if arrivals.shape is None:
        rate = arrivals.rate or 0.0
        until = None if duration_s is None else duration_s * rate
        return unit_times(renewal, rng, count, until) / rate
    shape = _seeded(arrivals.shape, purposes)
    if duration_s is not None:
        times_s, expected = cumulative(shape, duration_s)
        unit = unit_times(renewal, rng, count, float(expected[-1]))
    else:
        unit = unit_times(renewal, rng, count, None)
        times_s, expected = _long_enough(shape, float(unit[-1]))
    arrival_s: np.ndarray = np.interp(unit, expected, times_s)
    return arrival_s


def unit_times(
    renewal: Renewal, rng: np.random.Generator, count: int | None, until: float | None
) -> np.ndarray:
    """Return the times of a stationary renewal process of rate one: *count*, or those before *until*."""
    expected = min(math.inf if count is None else count, math.inf if until is None else until)
    if expected > MOST_REQUESTS:
        message = f"asks for {expected:.3g} requests; at most {MOST_REQUESTS:,} are drawn: shorten it"
        raise SpecError([Problem("workload", message)])
    chunk = int(expected + 6 * math.sqrt(expected) + 64)
    times = np.array([renewal.first(rng)])
    while (count is None or len(times) < count) and (until is None or times[-1] < until):
        times = np.concatenate((times, times[-1] + np.cumsum(renewal.gaps(rng, chunk))))
    times = times if until is None else times[: np.searchsorted(times, until)]
    return times if count is None else times[:count]


def cumulative(shape: ArrivalShape, until_s: float, from_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return times between two and the requests expected by each since the first; in between it is linear.

    Exact for shapes that are constant between known edges. Others are integrated by Simpson's rule
    on cells of at most one second (for up to 48 days), so that an arrival is misplaced by at most
    h**2 |rate'| / (8 rate) in a cell of length h; a jump of the rate is smeared over its cell.
    """
    if isinstance(shape, Stepped):
        edges_s = shape.edges(until_s)
        times_s = np.concatenate(([from_s], edges_s[edges_s > from_s], [until_s]))
        mean = rates(shape, (times_s[1:] + times_s[:-1]) / 2)
    else:
        cells = min(max(_FEWEST_CELLS, math.ceil(until_s - from_s)), _MOST_CELLS)
        times_s = np.linspace(from_s, until_s, cells + 1)
        edge, middle = rates(shape, times_s), rates(shape, (times_s[1:] + times_s[:-1]) / 2)
        mean = (edge[:-1] + 4 * middle + edge[1:]) / 6
    return times_s, np.concatenate(([0.0], np.cumsum(mean * np.diff(times_s))))


def rates(shape: ArrivalShape, times_s: np.ndarray) -> np.ndarray:
    """Return the shape's rates, checked; raise PolicyError if one is negative or not a number."""
    found = np.asarray(shape.rate(times_s), dtype=float)
    name = shape.kind or type(shape).__name__
    if found.shape != times_s.shape:
        raise PolicyError(
            f"arrival shape {name}: rate() got {times_s.shape} times and returned {found.shape}"
        )
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise PolicyError(
            f"arrival shape {name}: the rate at {times_s[first]:g} s is {found[first]}; "
            "rates are finite and not negative"
        )
    return found


def weibull_shape(cv: float) -> float:
    """Return the shape of a Weibull distribution with this coefficient of variation.

    >>> round(weibull_shape(1.0), 6)
    1.0
    """
    low, high = 0.05, 200.0
    for _ in range(100):
        middle = math.sqrt(low * high)
        log_ratio = math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle)
        low, high = (middle, high) if log_ratio > math.log1p(cv * cv) else (low, middle)
    return middle


def _long_enough(shape: ArrivalShape, requests: float) -> tuple[np.ndarray, np.ndarray]:
    """Integrate a shape, stretch by stretch, until it expects so many requests."""
    times_s, expected = cumulative(shape, _FIRST_S)
    while expected[-1] < requests and times_s[-1] < _LONGEST_S:
        more_s, more = cumulative(shape, 4 * times_s[-1], times_s[-1])
        expected = np.concatenate((expected, expected[-1] + more[1:]))
        times_s = np.concatenate((times_s, more_s[1:]))
    if expected[-1] >= requests:
        return times_s, expected
    message = f"expects only {expected[-1]:.3g} requests in {times_s[-1] / 86_400:.0f} days; raise its rate"
    raise SpecError([Problem("workload.arrivals.shape", message)])


def _seeded(shape: ArrivalShape, purposes: Purposes) -> ArrivalShape:
    """Give a shape that draws, and was given no seed, one of the run's own."""
    fields: Any = type(shape).model_fields
    if "seed" not in fields or getattr(shape, "seed", None) is not None:
        return shape
    return shape.model_copy(update={"seed": int(purposes.rng("shape").integers(2**62))})
