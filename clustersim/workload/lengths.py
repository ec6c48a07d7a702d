"""Draw lengths in tokens from their descriptions."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from clustersim.spec.workload import (
    Bounded,
    Empirical,
    Exponential,
    Fixed,
    Geometric,
    Length,
    Lognormal,
    Mixture,
    Quantiles,
    Uniform,
    Zipf,
)
from clustersim.workload.readers.table import open_table

_MOST_TOKENS = 2**31 - 1


def draw_lengths(length: Length, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return *count* lengths in tokens, at least one each; the first ones do not depend on *count*."""
    drawn = _drawn(length, rng, count)
    low = length.min if isinstance(length, Bounded) else 1
    high = (length.max if isinstance(length, Bounded) else None) or _MOST_TOKENS
    whole: np.ndarray = np.clip(np.rint(drawn), low, high).astype(np.int64)
    return whole


def lognormal_parameters(length: Lognormal) -> tuple[float, float]:
    """Return mean and standard deviation of the logarithm.

    >>> mu, sigma = lognormal_parameters(Lognormal(median=100, p99=500))
    >>> round(mu, 4), round(sigma, 4)
    (4.6052, 0.6918)
    """
    z99 = NormalDist().inv_cdf(0.99)
    if length.mean is not None:
        tail = math.log((length.p99 or length.mean) / length.mean)
        sigma = length.sigma if length.sigma is not None else z99 - math.sqrt(z99**2 - 2 * tail)
        return math.log(length.mean) - sigma**2 / 2, sigma
    mu = math.log(length.median or 1.0)
    return mu, length.sigma if length.sigma is not None else (math.log(length.p99 or 1.0) - mu) / z99


def _drawn(length: Length, rng: np.random.Generator, count: int) -> np.ndarray:
    match length:
        case Fixed():
            return np.full(count, length.tokens)
        case Lognormal():
            mu, sigma = lognormal_parameters(length)
            return np.exp(mu + sigma * rng.standard_normal(count))
        case Quantiles():
            shares, tokens = np.array(length.points).T
            quantiles: np.ndarray = np.interp(rng.random(count), shares, tokens)
            return quantiles
        case Uniform():
            return length.low + np.floor(rng.random(count) * (length.high - length.low + 1))
        case Exponential():
            return rng.standard_exponential(count) * length.mean
        case Geometric():
            return rng.geometric(1 / length.mean, count)
        case Mixture():
            return _mixed(length, rng, count)
        case _:
            return choose(*_table(length), rng, count)


def _table(length: Zipf | Empirical) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths that may occur and their weights."""
    if isinstance(length, Zipf):
        return np.arange(length.min, length.max + 1), np.arange(
            1, length.max - length.min + 2
        ) ** -length.theta
    values = np.asarray(length.values) if length.values else _column(length)
    return values, np.asarray(length.weights or np.ones(len(values)))


def choose(values: np.ndarray, weights: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return *count* of *values*, each drawn with a probability proportional to its weight."""
    share = np.cumsum(weights, dtype=float)
    chosen: np.ndarray = values[np.searchsorted(share, rng.random(count) * share[-1], side="right")]
    return chosen


def _mixed(length: Mixture, rng: np.random.Generator, count: int) -> np.ndarray:
    chooser, *others = rng.spawn(1 + len(length.parts))
    shares = np.array([part.share for part in length.parts])
    which = choose(np.arange(len(shares)), shares, chooser, count)
    drawn = [
        draw_lengths(part.length, other, count) for part, other in zip(length.parts, others, strict=True)
    ]
    return np.choose(which, drawn)


def _column(length: Empirical) -> np.ndarray:
    if length.file is None or length.column is None:
        raise ValueError("an empirical length needs values, or a file and a column")
    return open_table(length.file).column(length.column)
