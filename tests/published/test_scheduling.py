"""The published scheduling tables, on the traces where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clustersim.published import fragmentation, scheduling
from clustersim.published.go_random import GoRandom
from clustersim.published.scheduling import GAVEL, PHILLY, VENUS
from clustersim.sim.cluster import simulate_cluster
from clustersim.spec.jobs import JobCluster, NodeGroup, Scheduling
from clustersim.workload.jobs import read_jobs

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


def measured(*files: str) -> Path:
    for file in files:
        if not (DATA / file).is_file():
            pytest.skip(f"the trace {file} is not beside this checkout")
    return DATA


def test_waits_on_the_venus_slice_are_those_of_helios_to_the_last_digit():
    """HeliosArtifact @ bdaae10; FIFO, SJF and SRTF, consolidated and anywhere."""
    (result,) = scheduling.helios(measured(VENUS))
    assert result.met
    assert (result.rows, result.worst) == (10, 0.0)


def test_rounds_distort_waits_as_published():
    """fleetsim 0.8: rounds of 10, 30, 60 and 300 s."""
    (result,) = scheduling.rounds(measured(VENUS))
    assert result.met
    assert (result.rows, result.worst) == (8, 0.0)


def test_waits_of_all_philly_jobs_are_those_of_accasim_to_the_last_digit():
    """AccaSim 1.0: 33,166.73 s and 4,461.49 s."""
    (result,) = scheduling.philly(measured(PHILLY))
    assert result.met
    assert (result.rows, result.worst) == (2, 0.0)


@pytest.mark.parametrize(
    ("scheduler", "wait_s", "jct_s"),
    [
        ({"kind": "fifo", "strict": False}, 220.54, 4826.43),
        ({"kind": "srtf"}, 117.03, 4722.92),
        ({"kind": "srsf"}, 116.95, 4722.84),
        ({"kind": "tiresias", "by_time": True}, 367.41, 4973.30),
    ],
)
def test_preemptive_schedulers_are_those_of_tiresias_simulator(scheduler, wait_s, jct_s):
    """Tiresias' simulator @ 959f9b0: fjf, shortest, shortest-gpu and dlas by count, run for this test."""
    jobs = read_jobs(measured(VENUS) / VENUS).of_queue("vcvGl").in_one_queue()
    cluster = JobCluster(groups=(NodeGroup(nodes=20, accelerators=8),))
    chosen = Scheduling(scheduler=scheduler, placement="any-free", estimates="oracle")
    facts = simulate_cluster(cluster, jobs, chosen).facts
    assert facts["wait_mean_s"] == pytest.approx(wait_s, abs=0.005)
    assert facts["jct_mean_s"] == pytest.approx(jct_s, abs=0.005)


def test_two_dimensional_las_is_near_tiresias_simulator():
    """The simulator notices that a gang has passed a threshold up to its size too late; we, at once."""
    jobs = read_jobs(measured(VENUS) / VENUS).of_queue("vcvGl").in_one_queue()
    cluster = JobCluster(groups=(NodeGroup(nodes=20, accelerators=8),))
    chosen = Scheduling(scheduler="tiresias", placement="any-free")
    assert simulate_cluster(cluster, jobs, chosen).facts["jct_mean_s"] == pytest.approx(5716.33, rel=0.002)


@pytest.mark.parametrize(
    ("slice_", "nodes", "fifo_s", "sjf_s"),
    [("ee9e8c", 20, 243_701.44, 45_800.80)],
)
def test_waits_of_a_philly_virtual_cluster_are_those_of_helios(slice_, nodes, fifo_s, sjf_s):
    """HeliosArtifact @ bdaae10 on jobs of October and November 2017, consolidated."""
    jobs = read_jobs(measured(PHILLY) / PHILLY)
    first = np.datetime64("2017-09-04T10:30:41")
    start_s, end_s = (
        float((np.datetime64(day) - first) / np.timedelta64(1, "s")) for day in ("2017-10-01", "2017-12-01")
    )
    jobs = jobs.of_queue(slice_).between(start_s, end_s).in_one_queue()
    cluster = JobCluster(groups=(NodeGroup(nodes=nodes, accelerators=8),))
    for scheduler, wait_s in (("fifo", fifo_s), ("sjf", sjf_s)):
        chosen = Scheduling(scheduler=scheduler, placement="consolidate", estimates="oracle")
        assert simulate_cluster(cluster, jobs, chosen).facts["wait_mean_s"] == pytest.approx(
            wait_s, abs=0.005
        )


@pytest.mark.parametrize("trace", ["max_min_fairness", "minimize_makespan"])
def test_gavels_first_come_first_served_by_speed_agrees_job_by_job(trace):
    """Gavel @ c4fa400, policy fifo_perf, printed to a thousandth of a second."""
    answers = measured(f"{scheduling.ANSWERS}/{trace}__fifo_perf.jct.txt.gz", f"{GAVEL}/{trace}.trace")
    published_s = scheduling._printed_s(answers / scheduling.ANSWERS / f"{trace}__fifo_perf.jct.txt.gz")
    jobs = read_jobs(DATA / GAVEL / f"{trace}.trace")
    outcome = scheduling.run_gavel(jobs, DATA / GAVEL / "simulation_throughputs.json.gz", "fifo_perf")
    table = outcome.tables["jobs"]
    np.testing.assert_allclose(table["finish_s"] - table["submit_s"], published_s, atol=2e-3)


@pytest.mark.parametrize(
    ("policy", "jct_s"),
    [
        ("max_min_fairness_perf", 35_658.966),
        ("max_sum_throughput_perf", 36_928.595),
        ("min_total_duration", 71_950.287),
    ],
)
def test_gavels_policies_agree_within_one_per_cent_on_the_static_trace(policy, jct_s):
    """Gavel @ c4fa400, 100 jobs at once; where many shares are best, solvers differ in which they take."""
    folder = measured(f"{GAVEL}/minimize_makespan.trace") / GAVEL
    jobs = read_jobs(folder / "minimize_makespan.trace")
    outcome = scheduling.run_gavel(jobs, folder / "simulation_throughputs.json.gz", policy)
    assert outcome.facts["jct_mean_s"] == pytest.approx(jct_s, rel=0.01)


def test_fragments_of_openb_under_fgd_are_those_published_within_a_twentieth_of_a_point():
    """kubernetes-scheduler-simulator @ 8f3d641, seed 42, 130 % load; ties are broken by chance there."""
    filling, total = fragmentation.openb(measured(fragmentation.NODES, fragmentation.PODS))
    percent = np.round(100 * filling.arrived / total)
    for at, published in fragmentation.FRAGMENTS_PERCENT.items():
        ours = 100 * float(filling.fragments[percent == at].mean()) / total
        assert ours == pytest.approx(published, abs=0.05)
    assert 100 * filling.given[-1] / total == pytest.approx(fragmentation.GIVEN_PERCENT, abs=0.3)
    assert np.all(np.diff(filling.given) >= 0)


def test_gos_random_numbers_are_those_every_go_programmer_has_seen():
    """The first numbers below 100 of a program that forgets to seed: 81 87 47 59 81 18 25 40 56 0."""
    draws = GoRandom(1)
    assert [draws.below(100) for _ in range(10)] == [81, 87, 47, 59, 81, 18, 25, 40, 56, 0]
