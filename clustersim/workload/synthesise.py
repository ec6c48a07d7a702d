"""Draw a load that resembles the Azure conversation hour, from fitted statistics alone.

The fit (by us, on all 19,366 rows of AzureLLMInferenceTrace_conv.csv, Patel et al., ISCA 2024,
CC-BY-4.0) keeps: the mean rate; gaps and their burstiness; slow changes of the rate; quantiles of
prompts and outputs, the two humps of the outputs among them; and the correlation of the two. No row
of the trace is in the package, and nothing else of it is kept (no sessions, no order of lengths).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from clustersim.rng import Streams
from clustersim.workload.arrivals import Renewal, unit_times
from clustersim.workload.requests import Requests


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is kept of a trace; every number is fitted unless it says otherwise."""

    rate: float
    """Mean requests per second."""
    gap_cv: float
    """Coefficient of variation of the gaps at a steady rate."""
    rate_sigma: float
    """Standard deviation of the logarithm of the rate."""
    rate_memory_s: float
    """Time over which the rate forgets itself (an Ornstein-Uhlenbeck process)."""
    coupling: float
    """Correlation of the normal scores of prompt and output."""
    prompt_quantiles: tuple[tuple[float, float], ...]
    """Share of prompts, and the tokens that they do not exceed."""
    output_quantiles: tuple[tuple[float, float], ...]
    """Share of outputs, and the tokens that they do not exceed."""


AZURE_CONVERSATION = Fitted(
    rate=5.53,
    gap_cv=1.05,
    rate_sigma=0.22,
    rate_memory_s=270.0,
    coupling=-0.146,
    prompt_quantiles=(
        (0, 2), (0.01, 29), (0.05, 181), (0.1, 207), (0.2, 387), (0.3, 403), (0.4, 703), (0.5, 1020),
        (0.6, 1071), (0.7, 1130), (0.8, 1315), (0.85, 1860), (0.9, 2735), (0.95, 4083), (0.99, 4142),
        (0.999, 6179), (1, 14050),
    ),
    output_quantiles=(
        (0, 7), (0.01, 16), (0.05, 41), (0.1, 54), (0.2, 77), (0.3, 91), (0.4, 103), (0.5, 129),
        (0.6, 177), (0.66, 237), (0.68, 375), (0.7, 384), (0.8, 400), (0.9, 424), (0.95, 451),
        (0.99, 601), (0.999, 954), (1, 1000),
    ),
)  # fmt: skip


def azure_conv_like(count: int = 5000, seed: int = 2023, fitted: Fitted = AZURE_CONVERSATION) -> Requests:
    """Draw *count* (two or more) requests, stretched to the fitted mean rate; a seed fixes them all."""
    streams = Streams(seed)
    arrival_s = _arrivals(fitted, streams, count)
    arrival_s -= arrival_s[0]
    arrival_s *= (count - 1) / fitted.rate / arrival_s[-1]
    normal = streams.get("lengths").standard_normal((count, 2))
    other = fitted.coupling * normal[:, 0] + (1 - fitted.coupling**2) ** 0.5 * normal[:, 1]
    output = _at_score(fitted.output_quantiles, other)
    return Requests(
        arrival_s=arrival_s,
        prompt_tokens=_at_score(fitted.prompt_quantiles, normal[:, 0]),
        output_tokens=output,
        limit_tokens=output,
        notes=("synthetic: drawn from fitted statistics of the Azure conversation hour of 2023",),
    )


def _arrivals(fitted: Fitted, streams: Streams, count: int) -> np.ndarray:
    """Carry a unit-rate process onto the clock along a rate that wanders second by second."""
    unit = unit_times(Renewal("gamma", fitted.gap_cv**-2), streams.get("arrivals"), count, None)
    kicks = streams.get("rate").standard_normal(int(4 * count / fitted.rate) + 60).tolist()
    keep = float(np.exp(-1 / fitted.rate_memory_s))
    level, levels = kicks[0], []
    for kick in kicks:
        levels.append(level)
        level = keep * level + (1 - keep**2) ** 0.5 * kick
    rate = fitted.rate * np.exp(fitted.rate_sigma * np.array(levels) - fitted.rate_sigma**2 / 2)
    expected = np.concatenate(([0.0], np.cumsum(rate)))
    arrival_s: np.ndarray = np.interp(unit, expected, np.arange(len(expected)))
    return arrival_s


def _at_score(quantiles: tuple[tuple[float, float], ...], scores: np.ndarray) -> np.ndarray:
    """Return the tokens at normal scores, on straight lines between the quantiles."""
    shares, tokens = np.array(quantiles).T
    ladder = np.linspace(-6.0, 6.0, 12_001)
    at_ladder = np.interp([NormalDist().cdf(score) for score in ladder], shares, tokens)
    whole: np.ndarray = np.rint(np.interp(scores, ladder, at_ladder)).astype(np.int64)
    return whole
