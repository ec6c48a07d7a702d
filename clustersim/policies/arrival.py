"""The built-in shapes of arrival: how many requests per second are expected at each time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from clustersim.policies.base import ArrivalShape
from clustersim.rng import Streams
from clustersim.units import PerSecond, Seconds


class Stepped(ArrivalShape):
    """A shape that is constant between known times, so that its arrivals can be placed exactly."""

    @abstractmethod
    def edges(self, until_s: float) -> np.ndarray:
        """Return, ascending, the times in (0, until_s) at which the rate jumps."""


class Constant(Stepped):
    """The same rate at all times."""

    at: PerSecond = Field(gt=0)

    def edges(self, until_s: float) -> np.ndarray:
        return np.empty(0)

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        return np.full(np.shape(t_s), self.at)


class Diurnal(ArrivalShape):
    """A day's wave: a raised cosine from *low* to *high*, highest at *peak*, every *period*."""

    low: PerSecond
    high: PerSecond = Field(gt=0)
    period: Seconds = Field(86_400.0, gt=0)
    peak: Seconds = 50_400.0

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        wave = (1 + np.cos(2 * np.pi * (np.asarray(t_s) - self.peak) / self.period)) / 2
        return self.low + (self.high - self.low) * wave


class Bursty(Stepped):
    """Bursts at *burst_rate*, and *base_rate* in the gaps between them.

    With ``lengths: fixed`` a burst lasts exactly *burst* and a gap exactly *gap*, and the first
    burst starts at *phase*. With ``lengths: random`` both last exponentially long with these means
    (a two-state Markov-modulated process), from *seed*, or from the run's own seed if it is absent.
    """

    base_rate: PerSecond
    burst_rate: PerSecond = Field(gt=0)
    burst: Seconds = Field(gt=0)
    gap: Seconds = Field(gt=0)
    phase: Seconds = 0.0
    lengths: Literal["fixed", "random"] = "fixed"
    seed: NonNegativeInt | None = None

    @property
    def mean_rate(self) -> float:
        """The rate over a long time, requests per second."""
        return (self.burst * self.burst_rate + self.gap * self.base_rate) / (self.burst + self.gap)

    def edges(self, until_s: float) -> np.ndarray:
        starts, ends = self._bursts(until_s)
        edges = np.column_stack((starts, ends)).ravel()
        return edges[(edges > 0) & (edges < until_s)]

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        times = np.asarray(t_s, dtype=float)
        starts, ends = self._bursts(float(times.max(initial=0.0)) + self.burst)
        begun = np.searchsorted(starts, times, side="right")
        over = np.searchsorted(ends, times, side="right")
        return np.where(begun > over, self.burst_rate, self.base_rate)

    def _bursts(self, until_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return starts and ends of the bursts that begin before *until_s*, and at least one more."""
        if self.lengths == "random":
            return self._random_bursts(until_s)
        cycle = self.burst + self.gap
        first = self.phase % cycle - cycle
        starts = first + cycle * np.arange(int(until_s / cycle) + 3)
        return starts, starts + self.burst

    def _random_bursts(self, until_s: float) -> tuple[np.ndarray, np.ndarray]:
        rng = Streams(self.seed or 0).get("bursty")
        in_gap = rng.random() >= self.burst / (self.burst + self.gap)
        lead_s = float(rng.standard_exponential()) * self.gap if in_gap else 0.0
        stays, now_s = [np.zeros((0, 2))], 0.0
        while now_s <= until_s:
            stays.append(rng.standard_exponential((256, 2)) * (self.burst, self.gap))
            now_s += float(stays[-1].sum())
        burst_s, gap_s = np.concatenate(stays).T
        starts = lead_s + np.concatenate(([0.0], np.cumsum(burst_s + gap_s)[:-1]))
        return starts, starts + burst_s
