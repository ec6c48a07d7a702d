"""What holds in every cluster, whoever schedules: nothing is given twice, split, lost or unexplained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import ClusterSimError, PolicyError, StalledError
from clustersim.policies.cluster import Demand, JobScheduler, Move, Placement, Preempt, Resize, Start, Wake
from clustersim.policies.cluster.ordering import Fifo, Sjf
from clustersim.policies.cluster.placement import AnyFree, Consolidate
from clustersim.policies.cluster.preempting import Srtf
from clustersim.policies.registry import find, names
from clustersim.rng import Streams
from clustersim.sim.cluster import simulate_cluster, without_oversized
from clustersim.spec.jobs import Drain, JobCluster, NodeGroup, RestartCost, Scheduling
from clustersim.workload.jobs import make_jobs

NODES, PER_NODE = 4, 8
CLUSTER = JobCluster(groups=(NodeGroup(nodes=NODES, accelerators=PER_NODE, rack_nodes=2),))
SCHEDULERS, PLACEMENTS = names(JobScheduler), names(Placement)
PREEMPTING = [name for name in SCHEDULERS if find(JobScheduler, name).preempts]


@st.composite
def workloads(draw, most=14, sizes=(1, 2, 3, 4, 8, 12, 16, 32)):
    count = draw(st.integers(1, most))
    columns = {
        "submit_s": st.integers(0, 300),
        "duration_s": st.integers(0, 400),
        "accelerators": st.sampled_from(sizes),
        "queue": st.sampled_from(["red", "blue"]),
        "user": st.sampled_from(["ann", "bob"]),
        "priority": st.integers(0, 2),
    }
    drawn = {name: draw(st.lists(kind, min_size=count, max_size=count)) for name, kind in columns.items()}
    return make_jobs(**drawn)


def run(jobs, cluster=CLUSTER, **scheduling):
    return simulate_cluster(
        cluster, jobs, Scheduling(**{"estimates": "oracle", **scheduling}), streams=Streams(3)
    )


def ends_s(spans):
    return spans["start_s"] + spans["duration_s"]


def most_held(spans, of):
    """The most accelerators held at once, for each value of the column *of*."""
    found = {}
    for value in np.unique(spans[of]):
        rows = spans[of] == value
        times = np.concatenate([spans["start_s"][rows], ends_s(spans)[rows]])
        change = np.concatenate([spans["accelerators"][rows], -spans["accelerators"][rows]])
        order = np.lexsort((change, times))
        found[value] = int(np.cumsum(change[order]).max())
    return found


def check_laws(jobs, outcome, restarts=False):
    table, spans, waits = (outcome.tables[name] for name in ("jobs", "job_spans", "job_waits"))
    long = {name: column[spans["duration_s"] > 0] for name, column in spans.items()}
    assert all(held <= PER_NODE for held in most_held(long, "node").values())
    starts = {}
    for job, start_s, held in zip(spans["job"], spans["start_s"], spans["accelerators"], strict=True):
        starts[job, start_s] = starts.get((job, start_s), 0) + held
    for (job, _), held in starts.items():
        assert held % jobs.accelerators[job] == 0
    for job in range(len(jobs)):
        mine = long["job"] == job
        begun = np.unique(long["start_s"][mine])
        ended = np.unique(ends_s(long)[mine])
        assert np.all(begun[1:] >= ended[:-1] - 1e-9)
    assert np.all(table["start_s"] >= table["submit_s"])
    lived_s = table["finish_s"] - table["submit_s"]
    np.testing.assert_allclose(table["wait_s"] + table["run_s"], lived_s, atol=1e-6)
    if not restarts:
        np.testing.assert_allclose(table["run_s"], jobs.duration_s, atol=1e-6)
    explained = np.bincount(waits["job"], waits["duration_s"], len(jobs))
    np.testing.assert_allclose(explained, table["wait_s"], atol=1e-6)
    assert set(table["status"]) == {"finished"}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=12, deadline=None)
@given(jobs=workloads())
def test_every_scheduler_keeps_the_laws(scheduler, jobs):
    check_laws(jobs, run(jobs, scheduler=scheduler, placement="any-free"))


@pytest.mark.parametrize("placement", PLACEMENTS)
@settings(max_examples=12, deadline=None)
@given(jobs=workloads())
def test_every_placement_keeps_the_laws(placement, jobs):
    check_laws(jobs, run(jobs, scheduler={"kind": "fifo", "strict": False}, placement=placement))


@settings(max_examples=20, deadline=None)
@given(jobs=workloads(), round_s=st.sampled_from([7.0, 60.0]))
def test_with_rounds_jobs_start_on_rounds_only(jobs, round_s):
    outcome = run(jobs, round=round_s)
    check_laws(jobs, outcome)
    assert np.all(outcome.tables["jobs"]["start_s"] % round_s == 0)


@settings(max_examples=20, deadline=None)
@given(jobs=workloads())
def test_a_restart_costs_its_time_and_loses_no_work(jobs):
    outcome = run(jobs, scheduler="srtf", placement="any-free", restart=(RestartCost(cost=5.0),))
    check_laws(jobs, outcome, restarts=True)
    table = outcome.tables["jobs"]
    np.testing.assert_allclose(table["run_s"], jobs.duration_s + 5.0 * table["preemptions"], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(jobs=workloads(sizes=(1, 2, 4, 8)))
def test_a_virtual_cluster_never_exceeds_its_quota(jobs):
    cluster = CLUSTER.model_copy(update={"quotas": {"red": 8, "blue": 12}})
    outcome = run(jobs, cluster, scheduler={"kind": "fifo", "strict": False})
    check_laws(jobs, outcome)
    spans = outcome.tables["job_spans"]
    keep = spans["duration_s"] > 0
    held = most_held(
        {**{k: v[keep] for k, v in spans.items()}, "queue": jobs.queue[spans["job"]][keep]}, "queue"
    )
    assert held.get("red", 0) <= 8
    assert held.get("blue", 0) <= 12


@settings(max_examples=20, deadline=None)
@given(jobs=workloads(sizes=(1, 2, 4)), evict=st.booleans())
def test_a_drained_node_takes_no_new_jobs(jobs, evict):
    drain = Drain(first=1, nodes=2, start=50, end=200, evict=evict)
    outcome = run(jobs, CLUSTER.model_copy(update={"drains": (drain,)}), placement="any-free")
    check_laws(jobs, outcome)
    spans = outcome.tables["job_spans"]
    drained = (spans["node"] >= 1) & (spans["node"] < 3) & (spans["duration_s"] > 0)
    assert not np.any(drained & (spans["start_s"] >= 50) & (spans["start_s"] < 200))
    if evict:
        assert not np.any(drained & (spans["start_s"] < 50) & (ends_s(spans) > 50))


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.7]), min_size=1, max_size=30),
    whole=st.lists(st.sampled_from([1, 2, 4]), max_size=5),
)
def test_parts_of_an_accelerator_never_add_up_to_more_than_it(sizes, whole):
    share = [*sizes, *[1.0] * len(whole)]
    count = [*[1] * len(sizes), *whole]
    jobs = make_jobs(submit_s=[0] * len(share), duration_s=[10] * len(share), accelerators=count, share=share)
    outcome = run(jobs, JobCluster(groups=(NodeGroup(nodes=2, accelerators=4),)), placement="best-fit")
    spans = outcome.tables["job_spans"]
    for at_s in np.unique(spans["start_s"]):
        alive = (spans["start_s"] <= at_s) & (at_s < ends_s(spans))
        held = np.bincount(
            spans["node"][alive], spans["accelerators"][alive] * jobs.share[spans["job"][alive]], 2
        )
        assert held.max() <= 4 + 1e-9
    assert set(outcome.tables["jobs"]["status"]) == {"finished"}


@settings(max_examples=10, deadline=None)
@given(jobs=workloads())
def test_the_same_jobs_end_the_same_again(jobs):
    first, again = (run(jobs, placement="random", scheduler="tiresias") for _ in range(2))
    for name, columns in first.tables.items():
        for column, values in columns.items():
            assert values.tolist() == again.tables[name][column].tolist()


@settings(max_examples=20, deadline=None)
@given(jobs=workloads())
def test_schedulers_that_see_no_durations_ignore_them(jobs):
    """First starts before any end must not depend on how long jobs run."""
    longer = jobs.longer(1000.0)
    for scheduler in ("fifo", "smallest-first", "drf"):
        short, long = (run(x, scheduler=scheduler, estimates="given").tables["jobs"] for x in (jobs, longer))
        first_end_s = float(short["finish_s"].min())
        early = short["start_s"] < first_end_s
        assert short["start_s"][early].tolist() == long["start_s"][early].tolist()


def test_a_job_view_holds_no_true_duration():
    class Spy(JobScheduler):
        def pick(self, queue, view):
            for job in queue:
                values = [getattr(job, name) for name in dir(job) if not name.startswith("_")]
                assert 123.456 not in [value for value in values if isinstance(value, float)]
            while (job := queue.first_fitting()) is not None:
                yield Start(job)

    jobs = make_jobs(submit_s=[0, 1], duration_s=[123.456, 123.456], accelerators=[32, 32])
    assert simulate_cluster(CLUSTER, jobs, Scheduling(scheduler=Spy())).facts["jobs"] == 2


def test_an_oracle_is_stated_in_the_facts():
    jobs = make_jobs(submit_s=[0], duration_s=[5], accelerators=[1])
    assert run(jobs, scheduler="sjf").facts["estimates"] == "oracle"
    assert run(jobs, scheduler="sjf", estimates="given").facts["estimates"] == "given"


# -- what a scheduler may not do ---------------------------------------------------------------------


def scheduler_that(does, preempting=True):
    class Does(JobScheduler):
        preempts = preempting

        def pick(self, queue, view):
            yield from does(queue, view)

    return Does()


TWO = {"submit_s": [0, 0], "duration_s": [10, 10], "accelerators": [20, 20]}


def start_all(queue, view):
    for job in queue:
        yield Start(job)


def start_twice(queue, view):
    for job in list(queue)[:1]:
        yield Start(job)
        yield Start(job)


def stop_what_waits(queue, view):
    for job in queue:
        yield Preempt(job)


def start_on_too_few(queue, view):
    for job in queue:
        yield Start(job, accelerators=1)


def start_on_the_same_node(queue, view):
    for job in queue:
        yield Start(job, nodes=((0, 10), (0, 10)))


def wake_in_the_past(queue, view):
    yield Wake(view.now_s)


def say_nonsense(queue, view):
    yield "start them"


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (start_all, "do not fit; 12 of 32 are free"),
        (start_twice, "does not wait here"),
        (stop_what_waits, "does not run here"),
        (start_on_too_few, "runs on 20 to 20 accelerators, not on 1"),
        (start_on_the_same_node, "takes 10 of node 0|is no place for"),
        (wake_in_the_past, "wants to be asked at 0.0 s"),
        (say_nonsense, "is no intent"),
    ],
)
def test_what_the_contract_forbids_is_refused(does, says):
    with pytest.raises(PolicyError, match=says):
        simulate_cluster(
            CLUSTER, make_jobs(**TWO), Scheduling(scheduler=scheduler_that(does), placement="any-free")
        )


def test_a_scheduler_that_never_starts_a_job_is_told_which():
    idle = scheduler_that(lambda queue, view: iter(()))
    with pytest.raises(StalledError, match="2 jobs never run, the first is '0', which asks for 20"):
        simulate_cluster(CLUSTER, make_jobs(**TWO), Scheduling(scheduler=idle))


def test_a_placement_that_gives_what_is_taken_is_refused():
    class Greedy(Placement):
        def place(self, demand, nodes):
            return ((0, demand.accelerators),)

    jobs = make_jobs(submit_s=[0, 0], duration_s=[10, 10], accelerators=[6, 6])
    with pytest.raises(PolicyError, match="takes 6 of node 0"):
        run(jobs, placement=Greedy(), scheduler=Fifo())


def test_a_placement_may_score_nodes_only():
    class LastNode(Placement):
        def score(self, node, demand, nodes):
            return None if node == 0 else -node

    jobs = make_jobs(submit_s=[0, 0], duration_s=[10, 10], accelerators=[8, 16])
    spans = run(jobs, placement=LastNode(), scheduler=Fifo()).tables["job_spans"]
    assert sorted(zip(spans["job"].tolist(), spans["node"].tolist(), strict=True)) == [(0, 3), (1, 1), (1, 2)]


def test_jobs_larger_than_their_pool_are_refused_or_dropped_and_counted():
    jobs = make_jobs(submit_s=[0, 0], duration_s=[1, 1], accelerators=[33, 1])
    with pytest.raises(ClusterSimError, match="asks for 33 accelerators, and its pool gives at most 32"):
        run(jobs)
    kept = without_oversized(CLUSTER, jobs)
    assert (len(kept), kept.dropped) == (1, {"larger than its pool": 1})
    assert run(kept).facts["dropped"] == {"larger than its pool": 1}


# -- resizing, moving, cancelling, limits ------------------------------------------------------------


def test_a_resized_job_runs_at_the_speed_of_its_size():
    def grow(queue, view):
        for job in queue:
            yield Start(job)
        if view.now_s == 50:
            yield Resize(view.running[0], 8)
        elif view.now_s < 50:
            yield Wake(50.0)

    jobs = make_jobs(
        submit_s=[0], duration_s=[100], accelerators=[4], min_accelerators=[1], max_accelerators=[8]
    )
    table = simulate_cluster(CLUSTER, jobs, Scheduling(scheduler=scheduler_that(grow))).tables["jobs"]
    assert table["finish_s"].tolist() == [75.0]
    assert table["service_s"].tolist() == [50 * 4 + 25 * 8]


def test_a_moved_job_keeps_its_work_and_pays_its_restart():
    def move(queue, view):
        for job in queue:
            yield Start(job)
        if view.now_s == 50:
            yield Move(view.running[0], nodes=((3, 4),))
        elif view.now_s < 50:
            yield Wake(50.0)

    jobs = make_jobs(submit_s=[0], duration_s=[100], accelerators=[4])
    scheduling = Scheduling(scheduler=scheduler_that(move), restart=(RestartCost(cost=7.0),))
    tables = simulate_cluster(CLUSTER, jobs, scheduling).tables
    assert tables["jobs"]["finish_s"].tolist() == [107.0]
    assert tables["job_spans"]["node"].tolist() == [0, 3]


def test_a_job_that_is_withdrawn_never_runs_and_one_at_its_limit_is_stopped():
    jobs = make_jobs(
        submit_s=[0, 1, 2],
        duration_s=[100, 10, 10],
        accelerators=[32, 32, 32],
        limit_s=[60, np.inf, np.inf],
        cancel_s=[np.inf, 30, np.inf],
    )
    table = run(jobs).tables["jobs"]
    assert table["status"].tolist() == ["timed out", "withdrawn", "finished"]
    assert table["finish_s"].tolist() == [60.0, 30.0, 70.0]
    assert table["start_s"].tolist() == [0.0, -1.0, 60.0]
    assert table["wait_s"].tolist() == [0.0, 29.0, 58.0]


def test_every_second_of_a_wait_has_its_reason():
    cluster = JobCluster(
        groups=(NodeGroup(nodes=2, accelerators=8),),
        quotas={"red": 8},
        drains=(Drain(first=1, start=100, end=150),),
    )
    jobs = make_jobs(
        submit_s=[0, 0, 0, 10, 20, 101],
        duration_s=[40, 60, 20, 5, 5, 5],
        accelerators=[8, 4, 8, 8, 4, 12],
        queue=["red", "blue", "red", "blue", "blue", "blue"],
    )
    outcome = run(jobs, cluster, scheduler={"kind": "fifo", "strict": False})
    waits = outcome.tables["job_waits"]
    found = {}
    for job, reason, wait_s in zip(waits["job"], waits["reason"], waits["duration_s"], strict=True):
        found.setdefault(int(job), {})[str(reason)] = float(wait_s)
    assert found[2] == {"quota": 40.0}
    assert found[3] == {"gang": 45.0, "busy": 5.0}
    assert found[5] == {"drained": 49.0}


def test_demands_are_alike_only_if_placements_could_not_tell_them_apart():
    assert Demand(4) == Demand(4)
    assert Demand(4) != Demand(4, ("h100",))
    assert hash(Demand(1, share=0.5)) != hash(Demand(1, share=0.25))


@pytest.mark.parametrize("scheduler", [Sjf(), Srtf()])
def test_without_estimates_the_shortest_first_are_the_first(scheduler):
    jobs = make_jobs(submit_s=[0, 1, 2], duration_s=[9, 5, 1], accelerators=[32, 32, 32])
    outcome = simulate_cluster(CLUSTER, jobs, Scheduling(scheduler=scheduler, placement=Consolidate()))
    assert outcome.tables["jobs"]["start_s"].tolist() == [0.0, 9.0, 14.0]


def test_reproducing_a_round_needs_no_tick():
    jobs = make_jobs(submit_s=[1, 1e6], duration_s=[1, 1], accelerators=[1, 1])
    outcome = run(jobs, round=10.0, placement=AnyFree())
    assert outcome.tables["jobs"]["start_s"].tolist() == [10.0, 1e6]
    assert outcome.facts["decisions"] <= 4
