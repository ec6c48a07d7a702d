"""How fast clusters of jobs run; run with ``pytest tests/speed --benchmark-only``.

No absolute time is asserted, except that of the whole Philly trace, which is a promise.
"""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest

from clustersim.published.scheduling import PHILLY
from clustersim.sim.cluster import simulate_cluster
from clustersim.spec.jobs import JobCluster, NodeGroup, Scheduling
from clustersim.workload.jobs import make_jobs, read_jobs

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT.parent / "shared" / "data" / PHILLY
POOL = JobCluster(groups=(NodeGroup(nodes=80, accelerators=8),))


def some_jobs(count):
    draws = np.random.default_rng(1)
    return make_jobs(
        submit_s=np.cumsum(draws.exponential(20.0, count)),
        duration_s=draws.lognormal(7.0, 1.8, count),
        accelerators=draws.choice([1, 2, 4, 8, 32], count, p=[0.6, 0.1, 0.1, 0.15, 0.05]),
    )


@pytest.mark.parametrize("placement", ["any-free", "consolidate", "rack-aware"])
@pytest.mark.parametrize("scheduler", ["fifo", "sjf", "easy", "srtf", "tiresias"])
@pytest.mark.benchmark(group="5,000 jobs on 640 accelerators")
def test_schedulers_and_placements(benchmark, scheduler, placement):
    chosen = Scheduling(scheduler=scheduler, placement=placement, estimates="oracle")
    jobs = some_jobs(5_000)
    outcome = benchmark.pedantic(simulate_cluster, (POOL, jobs, chosen), rounds=1)
    assert outcome.facts["jobs"] == 5_000


@pytest.mark.benchmark(group="82,247 jobs on 640 accelerators")
def test_the_whole_philly_trace_takes_less_than_three_seconds(benchmark):
    if not TRACE.is_file():
        pytest.skip("the Philly trace is not beside this checkout")
    chosen = Scheduling(scheduler="fifo", placement="any-free")

    def replay():
        start_s = process_time()
        outcome = simulate_cluster(POOL, read_jobs(TRACE).in_one_queue(), chosen)
        return process_time() - start_s, outcome

    cpu_s, outcome = benchmark.pedantic(replay, rounds=1)
    assert outcome.facts["wait_mean_s"] == pytest.approx(33_166.73, abs=0.005)
    assert cpu_s < 3.0


@pytest.mark.benchmark(group="cost of a job by the length of the queue")
def test_a_job_costs_no_more_behind_a_longer_queue(benchmark):
    """All jobs at once: four times the jobs may take little more than four times as long."""
    times_s = []
    for count in (5_000, 20_000):
        jobs = make_jobs(submit_s=np.zeros(count), duration_s=np.ones(count), accelerators=np.full(count, 8))
        start_s = process_time()
        simulate_cluster(POOL, jobs, Scheduling(scheduler="sjf", estimates="oracle"))
        times_s.append(process_time() - start_s)
    benchmark.extra_info["seconds"] = times_s
    benchmark.pedantic(lambda: None, rounds=1)
    assert times_s[1] < 8 * times_s[0]
