"""Clusters of jobs whose outcome can be written down, or found by a loop of twenty lines."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from clustersim.errors import ClusterSimError
from clustersim.policies.cluster import shares
from clustersim.policies.cluster.fgd import Fgd, Typical, typicals
from clustersim.policies.cluster.linear import minimize
from clustersim.policies.cluster.preempting import gittins_index
from clustersim.policies.cluster.shares import Problem
from clustersim.sim.cluster import KnownSpeeds, simulate_cluster
from clustersim.spec.jobs import JobCluster, NodeGroup, Scheduling
from clustersim.workload.jobs import make_jobs

ONE = JobCluster(groups=(NodeGroup(nodes=1, accelerators=1),))


def run(jobs, cluster=ONE, scheduler="fifo", placement="any-free", **scheduling):
    chosen = Scheduling(scheduler=scheduler, placement=placement, estimates="oracle", **scheduling)
    return simulate_cluster(cluster, jobs, chosen)


def poisson_jobs(load, count, seed=11, size=1, mean_s=10.0):
    draws = np.random.default_rng(seed)
    submit_s = np.cumsum(draws.exponential(mean_s / load, count))
    return make_jobs(
        submit_s=submit_s, duration_s=draws.exponential(mean_s, count), accelerators=[size] * count
    )


def test_fifo_on_one_accelerator_waits_as_long_as_an_m_m_1_queue():
    """Mean wait = load / (1 - load) service times: 10 s at a load of one half."""
    wait_s = run(poisson_jobs(0.5, 60_000)).facts["wait_mean_s"]
    assert wait_s == pytest.approx(10.0, rel=0.05)


def test_fifo_waits_as_lindley_says():
    jobs = poisson_jobs(0.9, 2_000)
    wait_s, expected = 0.0, []
    for gap_s, before_s in zip(
        np.diff(jobs.submit_s, prepend=0.0), [0.0, *jobs.duration_s[:-1]], strict=True
    ):
        wait_s = max(0.0, wait_s + before_s - gap_s)
        expected.append(wait_s)
    np.testing.assert_allclose(run(jobs).tables["jobs"]["wait_s"], expected, atol=1e-6)


@pytest.mark.parametrize("scheduler", ["fifo", "sjf"])
def test_counted_pools_agree_with_a_loop_over_a_heap(scheduler):
    draws = np.random.default_rng(5)
    count = 500
    jobs = make_jobs(
        submit_s=np.sort(draws.integers(0, 20_000, count)),
        duration_s=draws.integers(1, 900, count),
        accelerators=draws.choice([1, 2, 4, 8, 24], count),
    )
    cluster = JobCluster(groups=(NodeGroup(nodes=4, accelerators=8),))
    start_s = run(jobs, cluster, scheduler).tables["jobs"]["start_s"]
    assert start_s.tolist() == loop(jobs, 32, scheduler == "sjf")


def loop(jobs, free, by_length):
    """Head-of-line blocking on a counted pool, the plain way."""
    count = len(jobs)
    ends, waiting, start_s, at = [], [], [0.0] * count, 0
    while at < count or waiting:
        now_s = min([jobs.submit_s[at]] if at < count else [], default=np.inf)
        now_s = min(now_s, ends[0][0] if ends else np.inf)
        while ends and ends[0][0] <= now_s:
            free += heapq.heappop(ends)[1]
        while at < count and jobs.submit_s[at] <= now_s:
            heapq.heappush(waiting, (jobs.duration_s[at] if by_length else 0.0, at))
            at += 1
        while waiting and jobs.accelerators[waiting[0][1]] <= free:
            job = heapq.heappop(waiting)[1]
            free -= jobs.accelerators[job]
            start_s[job] = float(now_s)
            heapq.heappush(ends, (now_s + jobs.duration_s[job], int(jobs.accelerators[job])))
    return start_s


TEN = JobCluster(groups=(NodeGroup(nodes=1, accelerators=10),))


def backfill_jobs():
    return make_jobs(
        submit_s=[0, 1, 2, 3, 4], duration_s=[100, 50, 98, 200, 90], accelerators=[6, 8, 4, 2, 2]
    )


def test_easy_backfills_what_ends_in_time_and_what_the_promise_leaves_free():
    """The second job is promised 100 s; the third ends at 100 s; the others wait for room behind it."""
    start_s = run(backfill_jobs(), TEN, "easy").tables["jobs"]["start_s"].tolist()
    assert start_s == [0.0, 100.0, 2.0, 100.0, 150.0]


def test_easy_may_use_what_the_promise_leaves_free_for_longer():
    jobs = make_jobs(submit_s=[0, 1, 2], duration_s=[100, 50, 500], accelerators=[6, 8, 2])
    assert run(jobs, TEN, "easy").tables["jobs"]["start_s"].tolist() == [0.0, 100.0, 2.0]


def test_conservative_keeps_the_promise_of_the_third_too():
    """Starting the last one early would delay the third, whom EASY promises nothing."""
    jobs = make_jobs(submit_s=[0, 1, 2, 3], duration_s=[100, 100, 100, 250], accelerators=[6, 6, 8, 4])
    easy = run(jobs, TEN, "easy").tables["jobs"]["start_s"].tolist()
    kept = run(jobs, TEN, "conservative").tables["jobs"]["start_s"].tolist()
    assert easy == [0.0, 100.0, 253.0, 3.0]
    assert kept == [0.0, 100.0, 200.0, 300.0]


def test_backfill_never_delays_the_first_in_line():
    draws = np.random.default_rng(8)
    for _ in range(20):
        jobs = make_jobs(
            submit_s=np.sort(draws.integers(0, 500, 30)),
            duration_s=draws.integers(1, 200, 30),
            accelerators=draws.integers(1, 11, 30),
        )
        plain, easy = (run(jobs, TEN, name).tables["jobs"]["start_s"] for name in ("fifo", "easy"))
        head = int(np.argmax(plain > jobs.submit_s)) if (plain > jobs.submit_s).any() else 0
        assert easy[head] <= plain[head]


def test_shortest_remaining_time_first_on_one_accelerator():
    """A job of 2 s interrupts one that has 6 s left, and that one ends before one of 9 s begins."""
    jobs = make_jobs(submit_s=[0, 4, 5], duration_s=[10, 2, 9], accelerators=[1, 1, 1])
    table = run(jobs, scheduler="srtf").tables["jobs"]
    assert table["finish_s"].tolist() == [12.0, 6.0, 21.0]
    assert table["preemptions"].tolist() == [1, 0, 0]


def test_tiresias_lowers_a_job_exactly_at_its_threshold():
    """The long job falls when it has had 50 accelerator-seconds, 25 s after its start on two."""
    two = JobCluster(groups=(NodeGroup(nodes=1, accelerators=2),))
    jobs = make_jobs(submit_s=[0, 10], duration_s=[60, 20], accelerators=[2, 2])
    table = run(jobs, two, {"kind": "tiresias", "thresholds": [50.0]}).tables["jobs"]
    assert table["start_s"].tolist() == [0.0, 25.0]
    assert table["finish_s"].tolist() == [80.0, 45.0]


def test_least_attained_service_shares_an_accelerator_equally():
    jobs = make_jobs(submit_s=[0, 0], duration_s=[100, 100], accelerators=[1, 1])
    finish_s = run(jobs, scheduler={"kind": "las", "slice": 10}).tables["jobs"]["finish_s"]
    assert sorted(finish_s.tolist()) == [190.0, 200.0]


def test_gittins_index_weighs_the_chance_to_end_against_the_service_it_takes():
    """Of services 2, 4, 4, 10: three of four end within 4 each, which costs 2 + 3 * 4."""
    services = np.array([2.0, 4.0, 4.0, 10.0])
    assert gittins_index(services, 0.0) == pytest.approx(3 / 14)
    assert gittins_index(services, 2.0) == pytest.approx(2 / 6)
    assert gittins_index(services, 4.0) == pytest.approx(1 / 6)
    assert gittins_index(services, 10.0) == 0.0


def test_a_dominant_share_is_kept_equal():
    jobs = make_jobs(
        submit_s=[0] * 20, duration_s=[50] * 20, accelerators=[1] * 20, queue=["a"] * 15 + ["b"] * 5
    )
    start_s = run(jobs, TEN, "drf").tables["jobs"]["start_s"]
    assert [int((start_s[:15] == 0).sum()), int((start_s[15:] == 0).sum())] == [5, 5]


def test_what_was_lent_is_taken_back():
    jobs = make_jobs(
        submit_s=[0, 0, 20], duration_s=[100, 100, 30], accelerators=[5, 5, 5], queue=["a", "a", "b"]
    )
    cluster = TEN.model_copy(update={"quotas": {"a": 5, "b": 5}, "borrow": True})
    table = run(jobs, cluster, "guaranteed").tables["jobs"]
    assert table["start_s"].tolist() == [0.0, 0.0, 20.0]
    assert table["preemptions"].tolist() == [0, 1, 0]
    assert table["finish_s"].tolist() == [100.0, 130.0, 50.0]


# -- speeds and shares of time -----------------------------------------------------------------------


def test_known_speeds_stretch_durations():
    cluster = JobCluster(groups=(NodeGroup(nodes=1, accelerators=1, kind="slow"),))
    jobs = make_jobs(submit_s=[0], duration_s=[10], accelerators=[1], profile=["net"])
    known = KnownSpeeds({"net": {("fast", 1): 8.0, ("slow", 1): 2.0}}, "fast")
    outcome = simulate_cluster(cluster, jobs, Scheduling(), known)
    assert outcome.tables["jobs"]["finish_s"].tolist() == [40.0]


def test_a_scattered_job_is_slower_if_told_so():
    cluster = JobCluster(groups=(NodeGroup(nodes=2, accelerators=4),))
    jobs = make_jobs(submit_s=[0, 0, 0], duration_s=[100, 100, 30], accelerators=[3, 3, 2])
    scattered = run(jobs, cluster, placement="any-free", across_nodes=0.5).tables["jobs"]
    assert scattered["nodes"].tolist() == [1, 2, 1]
    assert scattered["finish_s"].tolist() == [100.0, 200.0, 30.0]


def problem(speeds, sizes, counts):
    m = len(sizes)
    return Problem(
        np.array(speeds, float), np.array(sizes, float), np.array(counts, float), np.full(m, 100.0),
        np.zeros(m), np.ones(m),
    )  # fmt: skip


def test_telling_kinds_apart_serves_everybody_better_than_equal_parts():
    """Three jobs, one accelerator of each of three kinds: all get 4 % more than a third of everything."""
    found = shares.max_min(problem([[40, 12, 4], [12, 4, 1], [100, 50, 50]], [1, 1, 1], [1, 1, 1]))
    gain = (np.array([[40, 12, 4], [12, 4, 1], [100, 50, 50]]) * found).sum(axis=1) / np.array(
        [56 / 3, 17 / 3, 200 / 3]
    )
    assert gain.min() == pytest.approx(gain.max(), rel=1e-4)
    assert gain.min() == pytest.approx(1.04046, rel=1e-4)
    assert found.sum(axis=0).max() <= 1 + 1e-6
    assert found.sum(axis=1).max() <= 1 + 1e-6


def test_equal_jobs_get_equal_shares():
    found = shares.max_min(problem(np.ones((4, 2)), [1, 1, 1, 1], [1, 1]))
    np.testing.assert_allclose(found, 0.25, atol=1e-4)


def test_water_filling_gives_what_max_min_leaves():
    """The first job can use no more than its one accelerator; the second gets the other two."""
    found = shares.water_filling(problem([[1.0], [1.0]], [1, 2], [3]))
    np.testing.assert_allclose(found[:, 0], [1.0, 1.0], atol=1e-4)


def test_the_most_throughput_goes_to_the_fast():
    found = shares.max_sum(problem([[3.0], [1.0]], [1, 1], [1]))
    np.testing.assert_allclose(found[:, 0], [1.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_linear_programs_end_in_the_best_corner(seed):
    """Against all corners of small random programs, which is where the best value lies."""
    draws = np.random.default_rng(seed)
    rows = np.vstack([draws.uniform(0.1, 2.0, (3, 3)), -np.eye(3)])
    bounds = np.concatenate([draws.uniform(1, 5, 3), np.zeros(3)])
    cost = -draws.uniform(0.1, 3.0, 3)
    best = np.inf
    for a in range(6):
        for b in range(a):
            for c in range(b):
                corner = np.linalg.lstsq(rows[[a, b, c]], bounds[[a, b, c]], rcond=None)[0]
                if np.all(rows @ corner <= bounds + 1e-9):
                    best = min(best, float(cost @ corner))
    assert float(cost @ minimize(cost, rows, bounds).x) == pytest.approx(best, abs=1e-6)


def test_a_program_without_a_solution_is_refused():
    rows, bounds = np.array([[1.0], [-1.0]]), np.array([1.0, -2.0])
    with pytest.raises(ClusterSimError, match="no solution"):
        minimize(np.array([1.0]), rows, bounds)


# -- fragments ---------------------------------------------------------------------------------------


def test_fragments_are_what_typical_demands_cannot_use():
    """Half a node is left: 0.5 of one accelerator and one whole; half ask for 1, half for 2."""
    known = typicals((Typical(accelerators=1), Typical(accelerators=2)), [""])
    fragments = known.fragments(np.array([[0.5, 1.0]]), np.array([np.inf]), np.array([0]))
    assert fragments.tolist() == [0.5 * 0.5 + 0.5 * 1.5]


def test_fragments_of_a_node_without_processors_are_all_that_is_left():
    known = typicals((Typical(accelerators=1, cpus=4.0),), [""])
    left, kind = np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([0, 0])
    assert known.fragments(left, np.array([3.0, 4.0]), kind).tolist() == [2.0, 0.0]


def test_fgd_fills_a_broken_accelerator_before_it_breaks_another():
    """Where whole accelerators are asked for, halves go together; best fit would take the fuller node."""
    cluster = JobCluster(groups=(NodeGroup(nodes=2, accelerators=2),))
    jobs = make_jobs(submit_s=[0, 1, 2], duration_s=[50] * 3, accelerators=[1] * 3, share=[0.5, 1.0, 0.5])
    placement = Fgd(typical=(Typical(accelerators=1),))
    spans = run(jobs, cluster, placement=placement).tables["job_spans"]
    node = dict(zip(spans["job"].tolist(), spans["node"].tolist(), strict=True))
    assert node[2] == node[0]


# -- elastic jobs ------------------------------------------------------------------------------------


def elastic_jobs(duration_s, most=8):
    count = len(duration_s)
    return make_jobs(
        submit_s=[0] * count,
        duration_s=duration_s,
        accelerators=[1] * count,
        min_accelerators=[1] * count,
        max_accelerators=[most] * count,
    )


@pytest.mark.parametrize("scheduler", ["optimus", "pollux", "sia"])
def test_a_lone_elastic_job_gets_all_it_can_use(scheduler):
    table = run(elastic_jobs([800.0]), TEN, scheduler).tables["jobs"]
    assert table["finish_s"].tolist() == [100.0]


def test_optimus_gives_more_to_the_job_that_has_more_to_do():
    """Of ten accelerators at equal returns, remaining times of 900 and 100 s are cut where it saves most."""
    spans = run(elastic_jobs([9_000.0, 1_000.0], most=10), TEN, "optimus").tables["job_spans"]
    first = spans["start_s"] == 0
    held = dict(zip(spans["job"][first].tolist(), spans["accelerators"][first].tolist(), strict=True))
    assert sum(held.values()) == 10
    assert held[0] > 2 * held[1]


def test_pollux_is_fair_to_equal_jobs():
    spans = run(elastic_jobs([1_000.0, 1_000.0], most=10), TEN, "pollux").tables["job_spans"]
    assert spans["accelerators"][spans["start_s"] == 0].tolist() == [5, 5]


def test_sia_sends_each_job_to_the_kind_it_profits_from():
    cluster = JobCluster(
        groups=(
            NodeGroup(nodes=1, accelerators=1, kind="new"),
            NodeGroup(nodes=1, accelerators=1, kind="old"),
        )
    )
    jobs = make_jobs(submit_s=[0, 0], duration_s=[10, 10], accelerators=[1, 1], profile=["even", "keen"])
    known = KnownSpeeds(
        {"even": {("old", 1): 1.0, ("new", 1): 1.1}, "keen": {("old", 1): 1.0, ("new", 1): 9.0}}, "old"
    )
    chosen = Scheduling(scheduler="sia", placement="any-free", estimates="oracle")
    spans = simulate_cluster(cluster, jobs, chosen, known).tables["job_spans"]
    node = {
        job: node
        for job, node, at_s in zip(spans["job"], spans["node"], spans["start_s"], strict=True)
        if at_s == 0
    }
    assert node == {0: 1, 1: 0}
