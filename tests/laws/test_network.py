"""What must hold on any network: capacity, fairness, conservation of bytes, agreement of the fidelities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import ClusterSimError, StalledError
from clustersim.network.build import build
from clustersim.network.route import LinkLoad, Traffic, link_load
from clustersim.network.share import FlowSet, Terms
from clustersim.network.state import NEVER
from clustersim.network.topology import Topology
from clustersim.sim.fabric import Analytic, Fabric, Flow, Fluid, fabric
from clustersim.sim.links import LinkRecord, by_tier
from clustersim.spec.fabric import FatTree, LeafSpine, LinkClass, Torus, load_fabric

LINK = LinkClass(bandwidth=1e9, latency=1e-6)
TREE = build(FatTree(name="k4", radix=4, links=dict.fromkeys(("host", "leaf", "spine"), LINK)))
SPREAD = build(
    FatTree(name="k4", radix=4, links=dict.fromkeys(("host", "leaf", "spine"), LINK), routing="ideal")
)
FIDELITIES: tuple[type[Fabric], ...] = (Analytic, Fluid, Flow)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Any, list[tuple[Any, Any, float, Terms]]]:
    """Draw capacities and activities with weights, caps and classes."""
    links = draw(st.integers(2, 12))
    number = st.floats(0.05, 20.0)
    capacity = np.array(draw(st.lists(number, min_size=links, max_size=links)))
    one = st.tuples(
        st.lists(st.integers(0, links - 1), min_size=1, max_size=4, unique=True),
        st.lists(number, min_size=4, max_size=4),
        st.floats(0.1, 50.0),
        st.builds(Terms, number, st.one_of(st.just(np.inf), st.floats(0.01, 5.0)), st.integers(0, 2)),
    )
    jobs = draw(st.lists(one, min_size=1, max_size=20))
    return capacity, [(e, np.array(w[: len(e)]), size, terms) for e, w, size, terms in jobs]


def started(capacity: Any, jobs: Any, **options: Any) -> tuple[FlowSet, list[int]]:
    flows = FlowSet(capacity, **options)
    numbers = [flows.add(*job) for job in jobs]
    flows.update(0.0)
    return flows, numbers


def loads(capacity: Any, jobs: Any, rate: Any, most: int = 2) -> Any:
    """Return what classes up to *most* put on every link."""
    total = np.zeros(len(capacity))
    for (links, weights, _, terms), r in zip(jobs, rate, strict=True):
        total[links] += weights * r * (terms.priority <= most)
    return total


@settings(max_examples=150, deadline=None)
@given(networks())
def test_no_link_carries_more_than_it_can_and_everyone_is_held_back_by_something(network: Any) -> None:
    """The certificate of weighted max-min fairness, class by class."""
    capacity, jobs = network
    flows, numbers = started(capacity, jobs)
    rate = np.array([flows.rate_bytes_per_s(n) for n in numbers])
    assert (loads(capacity, jobs, rate) <= capacity * (1 + 1e-11)).all()
    for (links, _, _, terms), r in zip(jobs, rate, strict=True):
        if r >= terms.cap_bytes_per_s * (1 - 1e-11):
            continue
        used = loads(capacity, jobs, rate, terms.priority)
        held = False
        for link in links:
            rivals = [
                other / t.weight
                for (e, _, _, t), other in zip(jobs, rate, strict=True)
                if link in e and t.priority == terms.priority
            ]
            full = used[link] >= capacity[link] * (1 - 1e-10)
            held |= full and r / terms.weight >= max(rivals) * (1 - 1e-10)
        assert held


@settings(max_examples=60, deadline=None)
@given(networks(), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_time_scales_with_size_and_with_capacity(network: Any, faster: float, larger: float) -> None:
    capacity, jobs = network
    scaled = [
        (e, w, size * larger, Terms(t.weight, t.cap_bytes_per_s * faster, t.priority))
        for e, w, size, t in jobs
    ]
    plain, _ = started(capacity, jobs)
    other, _ = started(capacity * faster, scaled)
    first, second = plain.drain(), other.drain()
    assert second == pytest.approx({n: t * larger / faster for n, t in first.items()}, rel=1e-8)


@settings(max_examples=60, deadline=None)
@given(networks(), st.randoms(use_true_random=False), st.floats(0.01, 100.0))
def test_neither_order_nor_the_unit_of_weights_matters(network: Any, random: Any, unit: float) -> None:
    capacity, jobs = network
    flows, numbers = started(capacity, jobs)
    wanted = [flows.rate_bytes_per_s(n) for n in numbers]
    order = list(range(len(jobs)))
    random.shuffle(order)
    changed = [(*jobs[k][:3], Terms(jobs[k][3].weight * unit, *_rest(jobs[k][3]))) for k in order]
    flows, numbers = started(capacity, changed)
    found = dict(zip(order, [flows.rate_bytes_per_s(n) for n in numbers], strict=True))
    assert [found[k] for k in range(len(jobs))] == pytest.approx(wanted, rel=1e-11)


def _rest(terms: Terms) -> tuple[float, int]:
    return terms.cap_bytes_per_s, terms.priority


@settings(max_examples=60, deadline=None)
@given(networks())
def test_every_byte_is_carried_once_on_each_link(network: Any) -> None:
    capacity, jobs = network
    wanted = np.zeros(len(capacity))
    for links, weights, size, _ in jobs:
        wanted[links] += weights * size
    for metered in (False, True):
        flows, _ = started(capacity, jobs, metered=metered)
        last_s = max(flows.drain().values())
        assert flows.moved_bytes(last_s) == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(networks())
def test_stopping_at_every_event_or_between_them_changes_no_end(network: Any) -> None:
    capacity, jobs = network
    whole, _ = started(capacity, jobs)
    wanted = whole.drain()
    flows, _ = started(capacity, jobs, metered=True)
    found: dict[int, float] = {}
    while flows.next_s < NEVER:
        assert flows.update((flows.now_s + flows.next_s) / 2) == []
        found |= dict.fromkeys(flows.update(flows.next_s), flows.now_s)
    assert found == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 2))
def test_a_class_never_notices_the_classes_below_it(network: Any, most: int) -> None:
    capacity, jobs = network
    upper = [job for job in jobs if job[3].priority <= most]
    if not upper:
        return
    everyone, numbers = started(capacity, jobs)
    alone, few = started(capacity, upper)
    kept = [n for n, job in zip(numbers, jobs, strict=True) if job[3].priority <= most]
    found = [everyone.rate_bytes_per_s(n) for n in kept]
    assert found == pytest.approx([alone.rate_bytes_per_s(n) for n in few], rel=1e-11)


def test_a_low_class_finishes_once_the_high_one_is_gone() -> None:
    flows = FlowSet(np.array([1.0]))
    low = flows.add([0], [1.0], 1.0, Terms(priority=1))
    high = flows.add([0], [1.0], 2.0)
    assert flows.drain() == {high: 2.0, low: 3.0}


# On the clock


def waited(network: Fabric, *messages: tuple[Any, ...]) -> list[float]:
    """Start messages (delay, method, arguments) and return when each was done."""
    done = [np.nan] * len(messages)

    def send(number: int, delay_s: float, start: Any, *arguments: Any) -> Any:
        yield network.env.timeout(delay_s)
        yield start(*arguments)
        done[number] = network.env.now

    for number, message in enumerate(messages):
        network.env.process(send(number, *message))
    network.env.run()
    return done


@pytest.mark.parametrize("topology", [TREE, SPREAD])
@pytest.mark.parametrize(("source", "target"), [(0, 1), (0, 2), (0, 15), (7, 8)])
def test_on_an_empty_network_all_fidelities_agree(topology: Topology, source: int, target: int) -> None:
    """A transfer alone: within rounding, 1e-12."""
    times = [_alone(kind, topology, source, target) for kind in FIDELITIES]
    hops = {(0, 1): 2, (0, 2): 4}.get((source, target), 6)
    assert times == pytest.approx([5e6 / 1e9 + hops * 1e-6] * 3, rel=1e-12)


def _alone(kind: type[Fabric], topology: Topology, source: int, target: int) -> float:
    network = kind(simpy.Environment(), topology)
    return waited(network, (0.0, network.transfer, source, target, 5e6))[0]


def ring(topology: Topology, ranks: Any) -> LinkLoad:
    n = len(ranks)
    return link_load(topology, Traffic.of(ranks, np.roll(ranks, -1), 2 * (n - 1) / n))


@pytest.mark.parametrize("name", ["dgx-h100-node", "rail-h100-1024", "tpu-v4-pod", "nvl72", "two-sites"])
def test_a_ring_alone_takes_the_same_time_at_every_fidelity(name: str) -> None:
    """Where its flows share no link: within 1e-9, the closed form of the slowest link."""
    topology = build(load_fabric(name))
    ranks = topology.group(8)
    load = ring(topology, ranks)
    size = 1e9
    closed_s = load.latency_s + size * float((load.weights / topology.capacity_bytes_per_s[load.links]).max())
    for kind in FIDELITIES:
        network = kind(simpy.Environment(), topology)
        assert waited(network, (0.0, network.collective, load, size))[0] == pytest.approx(closed_s, rel=1e-9)


@pytest.mark.parametrize("kind", FIDELITIES)
def test_a_collective_goes_no_faster_than_its_cap(kind: type[Fabric]) -> None:
    """The cap is on the message: every flow gets the share that it has of the bytes."""
    load = ring(TREE, TREE.group(16))
    capped = LinkLoad(load.links, load.weights, 2e-6, 1e8, load.traffic)
    network = kind(simpy.Environment(), TREE)
    assert waited(network, (0.0, network.collective, capped, 1e7))[0] == pytest.approx(0.1 + 2e-6)
    network = kind(simpy.Environment(), TREE)
    terms = Terms(weight=3.0, cap_bytes_per_s=5e7, priority=2)
    assert waited(network, (0.0, network.collective, capped, 1e7, terms))[0] == pytest.approx(0.2 + 2e-6)


def test_where_hashes_collide_flows_agree_with_one_activity_on_the_busiest_link() -> None:
    """Flows of equal size: the last one ends when the busiest link is through."""
    topology = build(
        LeafSpine(
            name="ls",
            leaves=2,
            hosts_per_leaf=8,
            spines=4,
            links={"host": LINK, "leaf": LINK},
        )
    )
    traffic = Traffic.of(np.arange(8), np.arange(8, 16))
    load = link_load(topology, traffic)
    times = []
    for kind in (Fluid, Flow):
        network = kind(simpy.Environment(), topology)
        times.append(waited(network, (0.0, network.collective, load, 1e6))[0])
    assert load.weights.max() > 2.0
    assert times[0] == pytest.approx(times[1], rel=1e-9)


def test_transfers_share_links_and_analytic_ones_do_not() -> None:
    ends = {}
    for kind in FIDELITIES:
        network = kind(simpy.Environment(), TREE)
        ends[kind] = waited(network, (0.0, network.transfer, 0, 1, 1e6), (0.0, network.transfer, 2, 1, 1e6))
    assert ends[Analytic] == pytest.approx([1.002e-3, 1.004e-3])
    assert ends[Fluid] == pytest.approx([2.002e-3, 2.004e-3])
    assert ends[Flow] == pytest.approx([2.002e-3, 2.004e-3])


def test_simultaneous_starts_and_ends_are_solved_together() -> None:
    network = Fluid(simpy.Environment(), TREE)
    load = ring(TREE, TREE.group(16))
    waited(network, *[(0.5, network.collective, load, 1e6)] * 40)
    passes, solved = network._flows.solved
    assert (passes, solved) == (2, 40)


def test_a_message_to_oneself_takes_no_time_and_one_with_a_cap_takes_its_cap() -> None:
    network = Fluid(simpy.Environment(), TREE)
    assert waited(network, (0.0, network.transfer, 3, 3, 1e9)) == [0.0]
    network = Fluid(simpy.Environment(), TREE)
    assert waited(network, (0.0, network.transfer, 3, 3, 1e9, Terms(cap_bytes_per_s=1e9))) == [1.0]


def test_a_transfer_is_divided_among_its_queue_pairs() -> None:
    tree = FatTree(
        name="k4",
        radix=4,
        links=dict.fromkeys(("host", "leaf", "spine"), LINK),
        routing={"mode": "ecmp", "queue_pairs": 8},
    )
    topology = build(tree)
    network = Flow(simpy.Environment(), topology)
    event = network.transfer(0, 15, 8e6)
    network.env.run(until=1e-3)
    assert len(network) == 8
    network.env.run(event)
    moved = network.moved_bytes()
    hosts = topology.tier == topology.tiers.index("host")
    assert moved[hosts].sum() == pytest.approx(16e6)
    assert (moved[topology.tier == topology.tiers.index("leaf")] > 0).sum() > 2


def test_a_cancelled_message_never_arrives_and_gives_its_links_back() -> None:
    network = Fluid(simpy.Environment(), TREE)
    first, second = network.transfer(0, 1, 1e9), network.transfer(2, 1, 1e9)
    network.env.run(until=0.5)
    assert network.cancel(first) == pytest.approx(0.75e9)
    network.env.run(second)
    assert network.env.now == pytest.approx(1.25 + 4e-6)
    network.env.run()
    assert not first.triggered
    with pytest.raises(ClusterSimError, match="no message under way"):
        network.cancel(first)


def test_a_link_that_fails_and_comes_back_delays_what_crosses_it() -> None:
    network = Fluid(simpy.Environment(), TREE)
    event = network.transfer(0, 1, 1e9)
    network.env.run(until=0.25)
    network.set_capacity(0, 0.0)
    network.env.run(until=10.25)
    assert not event.triggered
    with pytest.raises(StalledError, match="1 messages never arrive"):
        network.check_done()
    network.set_capacity(0, 1e9)
    network.env.run(event)
    network.check_done()
    assert network.env.now == pytest.approx(11.0 + 2e-6)


def traffic_of(seed: int) -> list[tuple[float, int, int, float]]:
    rng = np.random.default_rng(seed)
    ends = rng.permuted(np.tile(np.arange(16), (60, 1)), axis=1)[:, :2]
    return list(zip(rng.random(60) * 0.05, *ends.T.tolist(), rng.exponential(2e6, 60) + 1.0, strict=True))


@pytest.mark.parametrize("record", [LinkRecord(), LinkRecord(1e-3), LinkRecord(0.7)])
@pytest.mark.parametrize("topology", [TREE, SPREAD])
def test_the_table_of_links_adds_up_to_the_bytes_sent(topology: Topology, record: LinkRecord) -> None:
    """In bins of any width or in exact steps; no link is ever used beyond its capacity."""
    network = Fluid(simpy.Environment(), topology, record)
    messages = traffic_of(1)
    waited(network, *[(at, network.transfer, a, b, size) for at, a, b, size in messages])
    table = network.links_table()
    hosts = table["tier"] == "host"
    assert table["bytes"][hosts].sum() == pytest.approx(2 * sum(size for *_, size in messages), rel=1e-9)
    by_link = np.bincount(table["link"], weights=table["bytes"], minlength=topology.resources)
    assert by_link == pytest.approx(network.moved_bytes(), rel=1e-9, abs=1e-3)
    assert table["utilization_share"].max() <= 1.0 + 1e-9
    assert (table["duration_s"] > 0).all()
    assert (np.diff(table["start_s"]) >= 0).all()
    assert table["flows"].min() > 0
    used = np.bincount(table["link"], weights=table["flows"] * table["duration_s"])
    assert used.max() < 60 * network.env.now


def test_bins_and_steps_tell_the_same_bytes_of_every_stretch_of_time() -> None:
    tables = []
    for record in (LinkRecord(), LinkRecord(5e-3)):
        network = Fluid(simpy.Environment(), TREE, record)
        waited(network, *[(at, network.transfer, a, b, size) for at, a, b, size in traffic_of(2)])
        tables.append(network.links_table())
    steps, bins = tables
    edges = np.arange(0, 0.2, 5e-3)
    for link in np.unique(steps["link"]).tolist():
        rows = steps["link"] == link
        start, end = steps["start_s"][rows], (steps["start_s"] + steps["duration_s"])[rows]
        inside = np.clip(
            np.minimum(end[:, None], edges[1:]) - np.maximum(start[:, None], edges[:-1]), 0, None
        )
        wanted = (steps["bytes"][rows] / (end - start))[:, None] * inside
        mine = bins["link"] == link
        found = np.histogram(bins["start_s"][mine] + 1e-9, edges, weights=bins["bytes"][mine])[0]
        assert found == pytest.approx(wanted.sum(axis=0), rel=1e-6, abs=1.0)


def test_long_pauses_cost_nothing_and_leave_no_rows() -> None:
    network = Fluid(simpy.Environment(), TREE, LinkRecord(1e-6))
    waited(network, (0.0, network.transfer, 0, 1, 1e3), (3600.0, network.transfer, 0, 1, 1e3))
    table = network.links_table()
    assert len(table["link"]) < 20
    assert set(np.round(table["start_s"])) == {0.0, 3600.0}


def test_tiers_are_used_by_what_crosses_them() -> None:
    network = Fluid(simpy.Environment(), TREE)
    waited(network, (0.0, network.transfer, 0, 15, 1e9))
    table = network.by_tier()
    assert table["tier"].tolist() == ["host", "leaf", "spine"]
    assert table["bytes"].tolist() == pytest.approx([2e9] * 3)
    assert table["busiest_share"] == pytest.approx([1.0] * 3, rel=1e-4)
    assert table["utilization_share"] == pytest.approx([2 / 32] * 3, rel=1e-4)
    moved = np.zeros(SPREAD.resources)
    moved[SPREAD.links :] = SPREAD.capacity_bytes_per_s[SPREAD.links :]
    assert by_tier(SPREAD, moved, 1.0)["utilization_share"].tolist() == [0.0, 1.0, 1.0]


def test_the_same_run_gives_the_same_bits() -> None:
    ends = []
    for _ in range(2):
        network = Fluid(simpy.Environment(), TREE, LinkRecord())
        done = waited(network, *[(at, network.transfer, a, b, size) for at, a, b, size in traffic_of(3)])
        ends.append([x.hex() for x in done] + network.links_table()["bytes"].tolist())
    assert ends[0] == ends[1]


def test_links_are_recorded_only_where_asked_and_fidelities_have_names() -> None:
    env = simpy.Environment()
    plain = fabric(env, TREE)
    assert isinstance(plain, Fluid)
    with pytest.raises(ClusterSimError, match="links are not recorded"):
        plain.links_table()
    assert isinstance(fabric(env, TREE, "flow"), Flow)
    with pytest.raises(ClusterSimError, match=r"unknown fidelity 'fliud'; allowed: .*did you mean 'fluid'"):
        fabric(env, TREE, "fliud")  # type: ignore[arg-type]


def test_a_torus_spreads_by_parts_and_stays_one_activity() -> None:
    """A place exactly opposite is reached both ways round at once."""
    torus = build(Torus(name="t", dimensions=(4,), links={"ici": LINK}, routing="ideal"))
    network = Flow(simpy.Environment(), torus)
    assert waited(network, (0.0, network.transfer, 0, 2, 1e9))[0] == pytest.approx(0.5 + 2e-6)
