"""How fast pipelines are timed; run with ``pytest tests/speed --benchmark-only``.

No absolute time is asserted: within one run, a program must beat a plain loop over the same dependencies.
"""

from time import process_time

import numpy as np
import pytest

from clustersim.cost import pipeline
from clustersim.cost.pipeline import Plan, StageTimes
from clustersim.kernels import numba

SIZES = [(16, 16), (16, 128), (64, 512)]


def times(stages: int, chunks: int = 1) -> StageTimes:
    return StageTimes.equal(stages, chunks, (1.0, 1.1, 0.8), 0.05)


@pytest.mark.parametrize(("stages", "microbatches"), SIZES)
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
@pytest.mark.benchmark(group="one time line")
def test_timeline(benchmark, schedule, stages, microbatches):
    line = benchmark(pipeline.timeline, schedule, times(stages), microbatches)
    assert line.period_s > 2.9 * microbatches


@pytest.mark.parametrize(("stages", "microbatches"), SIZES)
@pytest.mark.benchmark(group="an automatic order")
def test_automatic(benchmark, stages, microbatches):
    benchmark(pipeline.timeline, "zb-2p", times(stages), microbatches)


@pytest.mark.benchmark(group="2,500 plans")
def test_search(benchmark):
    plans = [
        Plan("interleaved", times(stages, chunks), stages * rounds)
        for stages in (2, 4, 8, 16)
        for chunks in (1, 2, 4)
        for rounds in (1, 2, 4, 8)
        for _ in range(52)
    ]
    estimates = benchmark(pipeline.evaluate, plans)
    assert len(estimates.makespan_s) == len(plans)


def plain(program: np.ndarray, prices: np.ndarray) -> float:
    """Time a program in plain Python."""
    ends: dict[int, float] = {}
    free: dict[int, float] = {}
    for after, hop, _, _, row, stage, price in program.tolist():
        start = max(free.get(stage, 0.0), ends[after] + prices[hop] if after >= 0 else 0.0)
        ends[row] = free[stage] = start + prices[price]
    return max(free.values())


@pytest.mark.skipif(numba is None, reason="nothing is compiled without numba")
def test_a_program_beats_a_plain_loop():
    found, at = pipeline.order("1f1b", 16, 1, 128), times(16)
    prices = at.prices().tolist()

    def cpu_s(function, *arguments):
        best = float("inf")
        for _ in range(5):
            start = process_time()
            for _ in range(4):
                function(*arguments)
            best = min(best, process_time() - start)
        return best

    assert pipeline.run(found, at).makespan_s == pytest.approx(plain(found.program, prices))
    assert cpu_s(plain, found.program, prices) > 10 * cpu_s(pipeline.run, found, at)
