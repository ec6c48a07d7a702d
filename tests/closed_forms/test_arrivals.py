"""Arrivals and lengths against what theory says of them, within bounds that a fixed seed must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clustersim.policies.arrival import Bursty, Constant, Diurnal
from clustersim.policies.base import ArrivalShape
from clustersim.rng import Streams
from clustersim.spec.workload import (
    Arrivals,
    Empirical,
    Exponential,
    Fixed,
    Geometric,
    Length,
    Lognormal,
    Mixture,
    Part,
    Quantiles,
    Uniform,
    Zipf,
)
from clustersim.workload.arrivals import Renewal, arrival_times, cumulative, unit_times, weibull_shape
from clustersim.workload.lengths import draw_lengths
from clustersim.workload.purposes import Purposes

N = 200_000


def times(
    arrivals: Arrivals, count: int | None = N, duration_s: float | None = None, seed: int = 1
) -> np.ndarray:
    return arrival_times(arrivals, Purposes(Streams(seed)), count, duration_s)


def lengths(length: Length, count: int = N) -> np.ndarray:
    return draw_lengths(length, np.random.default_rng(5), count)


def within(values: np.ndarray, mean: float, deviations: float = 4.0) -> bool:
    return abs(values.mean() - mean) < deviations * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("process", "cv"), [("poisson", 1.0), ("gamma", 0.5), ("gamma", 3.0), ("weibull", 0.4), ("weibull", 2.0)]
)
def test_gaps_have_the_mean_and_the_coefficient_of_variation_that_were_asked_for(
    process: str, cv: float
) -> None:
    asked = None if process == "poisson" else cv
    gaps = np.diff(times(Arrivals(process=process, cv=asked, rate=8.0)))
    assert within(gaps, 1 / 8)
    spread = gaps.std() / gaps.mean()
    error = (
        math.sqrt(((gaps - gaps.mean()) ** 4).mean() / gaps.var() ** 2 - 1)
        * spread
        / 2
        / math.sqrt(len(gaps))
    )
    assert abs(spread - cv) < 5 * (error + spread**2 / math.sqrt(len(gaps)))


def test_poisson_counts_vary_as_much_as_they_are() -> None:
    arrival_s = times(Arrivals(rate=50.0))
    counts = np.histogram(arrival_s, np.arange(0, arrival_s[-1] - 1, 1.0))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.07)
    ordered = np.sort(np.diff(arrival_s)) * 50
    assert np.abs(1 - np.exp(-ordered) - (np.arange(N - 1) + 0.5) / N).max() < 1.63 / math.sqrt(N)


def test_a_bursty_renewal_process_disperses_by_its_squared_coefficient_of_variation() -> None:
    arrival_s = times(Arrivals(process="gamma", cv=3.0, rate=100.0))
    counts = np.histogram(arrival_s, np.arange(0, arrival_s[-1] - 5, 5.0))[0]
    assert counts.var() / counts.mean() == pytest.approx(9.0, rel=0.2)


@pytest.mark.parametrize("renewal", [Renewal("gamma", 1 / 36), Renewal("weibull", weibull_shape(4.0))])
def test_the_expected_count_is_the_rate_times_the_time_however_short_the_time(renewal: Renewal) -> None:
    counts = np.array([len(unit_times(renewal, Streams(s).get("x"), None, 3.0)) for s in range(4000)])
    assert within(counts, 3.0)


@pytest.mark.parametrize("cv", [0.05, 0.5, 1.0, 2.0, 10.0])
def test_a_weibull_distribution_of_the_found_shape_has_that_coefficient_of_variation(cv: float) -> None:
    k = weibull_shape(cv)
    assert math.gamma(1 + 2 / k) / math.gamma(1 + 1 / k) ** 2 - 1 == pytest.approx(cv**2, rel=1e-6)


def test_deterministic_arrivals_start_at_zero_and_keep_their_distance() -> None:
    arrivals = Arrivals(process="deterministic", rate=4.0)
    assert times(arrivals, None, 1.0).tolist() == [0.0, 0.25, 0.5, 0.75]
    assert times(arrivals, 3).tolist() == [0.0, 0.25, 0.5]


def test_a_day_expects_the_mean_of_low_and_high_and_an_exact_part_of_it_by_any_time() -> None:
    shape = Diurnal(low=1.0, high=5.0, period=86_400.0, peak=50_400.0)
    at_s, expected = cumulative(shape, 86_400.0)
    assert expected[-1] == pytest.approx(3.0 * 86_400, rel=1e-12)
    turn = 2 * np.pi / 86_400
    exact = 3 * at_s + 2 * (np.sin(turn * (at_s - 50_400)) + np.sin(turn * 50_400)) / turn
    assert np.abs(expected - exact).max() < 1e-6
    counts = np.histogram(times(Arrivals(shape=shape), None, 86_400.0), np.arange(0, 86_401, 3600.0))[0]
    hourly = np.diff(np.interp(np.arange(0, 86_401, 3600.0), at_s, exact))
    assert (np.abs(counts - hourly) < 4.5 * np.sqrt(hourly)).all()


def test_arrivals_along_a_smooth_shape_lie_within_the_promised_distance_of_the_exact_inverse() -> None:
    arrival_s = times(Arrivals(process="deterministic", shape=Diurnal(low=1.0, high=5.0)), 100_000)
    turn = 2 * np.pi / 86_400
    exact = 3 * arrival_s + 2 * (np.sin(turn * (arrival_s - 50_400)) + np.sin(turn * 50_400)) / turn
    rate = Diurnal(low=1.0, high=5.0).rate(arrival_s)
    assert np.abs((exact - np.arange(100_000)) / rate).max() < 2e-4


def test_a_shape_in_steps_is_integrated_exactly() -> None:
    shape = Bursty(base_rate=1.0, burst_rate=11.0, burst=2.0, gap=8.0, phase=3.0)
    arrival_s = times(Arrivals(process="deterministic", shape=shape), 30)
    assert arrival_s[:5].tolist() == pytest.approx([0.0, 1.0, 2.0, 3.0, 3 + 1 / 11])
    assert shape.mean_rate == 3.0
    assert cumulative(shape, 1000.0)[1][-1] == pytest.approx(3000.0)
    assert times(Arrivals(process="deterministic", shape=Constant(at=4.0)), 3).tolist() == [0.0, 0.25, 0.5]


def test_random_bursts_have_the_mean_lengths_and_the_mean_rate() -> None:
    shape = Bursty(base_rate=1.0, burst_rate=11.0, burst=2.0, gap=8.0, lengths="random", seed=3)
    edges = shape.edges(1e5)
    stays = np.diff(edges)
    first = int(shape.rate(np.array([edges[0] / 2]))[0] == 1.0)
    bursts, gaps = stays[1 - first :: 2], stays[first::2]
    assert within(bursts, 2.0)
    assert within(gaps, 8.0)
    assert cumulative(shape, 1e5)[1][-1] / 1e5 == pytest.approx(3.0, rel=0.03)


def test_a_rate_that_doubles_halves_every_arrival_time() -> None:
    for process in ("poisson", "gamma"):
        cv = None if process == "poisson" else 2.0
        slow, fast = (times(Arrivals(process=process, cv=cv, rate=r), 1000) for r in (3.0, 6.0))
        assert slow == pytest.approx(2 * fast)


class Ramp(ArrivalShape):
    """A rate that grows by the second."""

    def rate(self, t_s: np.ndarray) -> np.ndarray:
        return 0.02 * t_s


def test_a_users_own_shape_is_followed() -> None:
    arrival_s = times(Arrivals(process="deterministic", shape=Ramp()), 10_000)
    assert arrival_s == pytest.approx(np.sqrt(np.arange(10_000) / 0.01), abs=0.02)
    assert arrival_s[100:] == pytest.approx(np.sqrt(np.arange(100, 10_000) / 0.01), abs=1e-4)


@pytest.mark.parametrize(
    ("length", "mean"),
    [
        (Fixed(tokens=77), 77.0),
        (Lognormal(mean=1000, sigma=0.8), 1000.0),
        (Lognormal(median=1000, sigma=0.8), 1000 * math.exp(0.32)),
        (Lognormal(mean=1000, p99=4000), 1000.0),
        (Uniform(low=10, high=20), 15.0),
        (Exponential(mean=300), 300.0),
        (Geometric(mean=40), 40.0),
        (Empirical(values=(10, 20), weights=(3, 1)), 12.5),
        (Quantiles(points=((0, 100), (0.5, 200), (1, 1000))), 375.0),
        (Zipf(min=1, max=3, theta=1.0), 3 / (1 + 1 / 2 + 1 / 3)),
        (
            Mixture(
                parts=(Part(share=2, length=Uniform(low=1, high=3)), Part(share=1, length=Fixed(tokens=8)))
            ),
            4.0,
        ),
    ],
)
def test_lengths_have_the_mean_that_was_asked_for(length: Length, mean: float) -> None:
    drawn = lengths(length)
    assert drawn.dtype == np.int64
    assert drawn.min() >= 1
    assert drawn.mean() == mean if isinstance(length, Fixed) else within(drawn, mean)


def test_lognormal_lengths_have_the_99th_percentile_that_was_asked_for() -> None:
    for length in (Lognormal(mean=1000, p99=4000), Lognormal(median=500, p99=4000)):
        assert np.quantile(lengths(length), 0.99) == pytest.approx(4000, rel=0.03)


def test_zipf_lengths_follow_the_power_of_their_rank() -> None:
    counts = np.bincount(lengths(Zipf(min=1024, max=4096, theta=0.6)) - 1024, minlength=3073)
    share = np.arange(1, 3074) ** -0.6
    expected = N * share / share.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 3072 + 5 * math.sqrt(2 * 3072)


def test_bounds_move_what_lies_outside_to_the_bound() -> None:
    drawn = lengths(Lognormal(mean=1000, sigma=1.0, min=500, max=2000))
    free = lengths(Lognormal(mean=1000, sigma=1.0))
    assert drawn.tolist() == np.clip(free, 500, 2000).tolist()
