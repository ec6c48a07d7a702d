"""Collectives against their closed forms: bytes sent, bytes on links, latency over levels, collisions."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.cost.collectives import (
    Group,
    Inside,
    Outside,
    Uplinks,
    chosen,
    collective_s,
    curve_of,
    fullest,
    group_of,
    group_s,
    shape,
    slowdown,
    torus_s,
    torus_shape,
    wire_share,
)
from clustersim.cost.collectives.fabric import Placed, activity, group_on
from clustersim.cost.collectives.fit import Measured, errors, fitted
from clustersim.cost.dispatch import ROW_BYTES, Exchange, Wires, copies, phase_s, round_trip_s
from clustersim.cost.replica import Network, Parallel, Replica, pass_prices
from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.network.build import build
from clustersim.network.loads import (
    domain_rings,
    hierarchical,
    rail_exchange,
    rails,
    sent,
    switched,
    torus_traffic,
    traffic,
)
from clustersim.network.route import link_load
from clustersim.network.topology import Topology
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import card_files, load_card
from clustersim.spec.dispatch import DispatchCurve, load_dispatch
from clustersim.spec.efficiency import CollectiveCurve, Operation, Protocol, load_efficiency
from clustersim.spec.fabric import LeafSpine, LinkClass, RailFatTree, ScaleUp, Torus
from clustersim.spec.interconnect import Routing
from clustersim.spec.model import Model
from clustersim.spec.precision import Precision
from clustersim.spec.source import Source
from clustersim.spec.stack import load_stack
from clustersim.spec.transport import Hop, Hops, Transport, load_transport

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BY_HAND = Source(source="chosen by hand", date="2026-11-24", kind="assumed")
GIB = 2.0**30


def hops(*protocols: Hop) -> Hops:
    return Hops(source=BY_HAND, protocols=protocols)


def plain(cross_s: float = 0.0, step_s: float = 0.0, launch_s: float = 0.0) -> Transport:
    """Return a network that reaches every bit of every link."""
    hop = Hop(launch=launch_s, step=step_s, cross=cross_s, link_share=1.0, inner_share=1.0)
    every = hops(hop)
    return Transport(name="plain", ring=every, tree=every, exchange=every, send=every, in_network=every)


def perfect(ranks: int, bytes_per_s: float = 400e9) -> Inside:
    """Return a domain without latency whose rings reach every bit of every link."""
    curve = CollectiveCurve(source=BY_HAND, protocols=(Protocol(launch=0.0, step=0.0, link_share=1.0),))
    operations: tuple[Operation, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    return Inside(ranks, bytes_per_s, dict.fromkeys(operations, curve))


def seconds(group: Group, operation: Operation, size: float = GIB, algorithm: str = "auto") -> float:
    return float(group_s(group, operation, np.array([size]), algorithm)[0])


# One level: algorithms

ANY: list[tuple[str, Operation]] = [
    ("ring", "all_reduce"),
    ("ring", "all_gather"),
    ("ring", "reduce_scatter"),
    ("ring", "broadcast"),
    ("ring", "reduce"),
    ("tree", "all_reduce"),
    ("tree", "broadcast"),
    ("tree", "reduce"),
    ("double_tree", "all_reduce"),
    ("halving_doubling", "all_reduce"),
    ("bruck", "all_gather"),
    ("bruck", "all_to_all"),
    ("pairwise", "all_to_all"),
    ("direct", "all_gather"),
    ("direct", "reduce_scatter"),
    ("direct", "all_reduce"),
]


@pytest.mark.parametrize(("algorithm", "operation"), ANY)
@given(ranks=st.integers(2, 70))
def test_the_busiest_rank_sends_what_the_closed_form_says(algorithm, operation, ranks):
    assert sent(traffic(algorithm, operation, np.arange(ranks))).max() == pytest.approx(
        shape(algorithm, operation, ranks).sent_share
    )


@given(st.integers(1, 7))
def test_gathers_by_halving_and_doubling_need_powers_of_two(power):
    ranks = 2**power
    pairs = traffic("halving_doubling", "reduce_scatter", np.arange(ranks))
    assert sent(pairs) == pytest.approx(np.full(ranks, (ranks - 1) / ranks))
    with pytest.raises(ClusterSimError, match="2, 4, 8"):
        traffic("halving_doubling", "all_gather", np.arange(ranks + 2 if ranks > 2 else 3))
    with pytest.raises(ClusterSimError, match="2, 4, 8"):
        shape("halving_doubling", "all_gather", 3 * ranks)


@given(st.integers(2, 200))
def test_every_lossless_all_reduce_moves_at_least_two_n_minus_one_buffers(ranks):
    """Each of n - 1 buffers must reach the sum, and the sum n - 1 ranks."""
    for algorithm in ("ring", "tree", "double_tree", "halving_doubling"):
        total = traffic(algorithm, "all_reduce", np.arange(ranks)).share.sum()
        assert total == pytest.approx(2 * (ranks - 1))


@given(st.integers(2, 100))
def test_what_a_rank_sends_in_an_exchange_it_also_receives(ranks):
    for algorithm in ("pairwise", "bruck"):
        pairs = traffic(algorithm, "all_to_all", np.arange(ranks))
        received = np.bincount(pairs.target, weights=pairs.share)
        assert received == pytest.approx(sent(pairs))


def test_a_thousand_ranks_reduce_in_fewer_steps_by_trees_than_by_a_ring():
    assert shape("ring", "all_reduce", 1024).steps == 2046
    assert shape("tree", "all_reduce", 1024).steps == 20
    assert shape("double_tree", "all_reduce", 1024).steps == 20
    assert shape("halving_doubling", "all_reduce", 1024).steps == 20
    assert shape("halving_doubling", "all_reduce", 1025).steps == 22
    assert shape("in_network", "all_reduce", 1024).steps == 2


def test_bruck_trades_bytes_for_steps():
    assert shape("bruck", "all_to_all", 1024).steps == 10
    assert shape("bruck", "all_to_all", 1024).sent_share == pytest.approx(5.0)
    assert shape("pairwise", "all_to_all", 1024).steps == 1023
    assert shape("pairwise", "all_to_all", 1024).sent_share == pytest.approx(1023 / 1024)


def test_a_lone_rank_does_nothing():
    assert shape("ring", "all_reduce", 1).steps == 0
    assert traffic("ring", "all_reduce", [7]).share.sum() == 0.0


def test_what_an_algorithm_cannot_do_is_told():
    with pytest.raises(UnknownNameError, match="did you mean 'ring'"):
        shape("rnig", "all_reduce", 8)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="operation of algorithm pairwise"):
        shape("pairwise", "all_reduce", 8)
    with pytest.raises(UnknownNameError, match="operation of ring"):
        traffic("ring", "all_to_all", np.arange(8))
    with pytest.raises(UnknownNameError, match="with pairs"):
        traffic("nvls", "all_reduce", np.arange(8))
    with pytest.raises(ClusterSimError, match="one by one"):
        traffic("pairwise", "all_to_all", np.arange(5000))


# Torus


@pytest.mark.parametrize("sides", [(4,), (4, 4), (4, 4, 4), (3, 3)])
@pytest.mark.parametrize("operation", ["all_reduce", "all_gather", "reduce_scatter"])
def test_rings_of_a_cube_load_every_link_of_its_torus_alike(sides, operation):
    torus = build(
        Torus(name="cube", dimensions=sides, links={"ici": LinkClass(bandwidth=50e9)}, routing="ideal")
    )
    ranks, laps = math.prod(sides), 2 if operation == "all_reduce" else 1
    load = link_load(torus, torus_traffic(operation, np.arange(ranks), sides))
    assert len(load.links) == torus.links == 2 * len(sides) * ranks
    expected = laps * (ranks - 1) / ranks / (2 * len(sides))
    assert load.weights == pytest.approx(np.full(torus.links, expected))
    assert torus_shape(operation, sides).sent_share == pytest.approx(expected)
    assert torus_shape(operation, sides).steps == laps * sum(side - 1 for side in sides)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_the_busiest_link_of_an_uneven_torus_is_the_closed_form(sides):
    shapely = tuple(sides)
    pairs = torus_traffic("all_reduce", np.arange(math.prod(shapely)), shapely) if max(sides) > 2 else None
    if pairs is None or min(side for side in sides if side > 1) < 3:
        return  # both ways round a pair of ranks share the pair
    assert pairs.share.max() == pytest.approx(torus_shape("all_reduce", shapely).sent_share)
    assert sent(pairs).sum() == pytest.approx(2 * (math.prod(shapely) - 1))


def test_a_torus_sends_over_all_its_links_at_once():
    curve = CollectiveCurve(source=BY_HAND, protocols=(Protocol(launch=1e-6, step=1e-7, link_share=0.5),))
    time_s = torus_s(curve, "all_reduce", (4, 4, 4), np.array([GIB, 0.0]), 100e9)
    assert time_s[0] == pytest.approx(1e-6 + 18e-7 + 2 * 63 / 64 / 6 * GIB / 50e9)
    assert time_s[1] == 0.0
    assert torus_s(curve, "all_gather", (1, 1), np.array([GIB]), 100e9)[0] == 0.0
    with pytest.raises(UnknownNameError, match="torus rings"):
        torus_s(curve, "all_to_all", (4, 4), np.array([GIB]), 100e9)


# Levels


def test_a_flat_ring_over_nodes_is_bound_by_their_adapters():
    group = Group(perfect(8), (Outside(4, 100e9, plain()),))
    assert seconds(group, "all_reduce", algorithm="ring") == pytest.approx(2 * 31 / 32 * GIB / 100e9)
    assert seconds(group, "all_gather") == pytest.approx(31 / 32 * GIB / 100e9)
    assert seconds(group, "all_to_all") == pytest.approx(8 * (1 - 1 / 4) * GIB / 100e9)
    assert seconds(group, "send_recv") == pytest.approx(GIB / (100e9 / 8))
    assert seconds(group, "broadcast") == pytest.approx(GIB / 100e9)


def test_latency_sums_over_levels_and_bandwidth_is_the_slowest_of_them():
    crossing, inner = 10e-6, 1e-6
    group = Group(perfect(8), (Outside(4, 1e15, plain(crossing, inner)),))
    ring_s = 2 * 3 * crossing + 2 * (31 - 3) * inner
    assert seconds(group, "all_reduce", 1.0, "ring") == pytest.approx(ring_s, rel=1e-6)
    tree_s = 2 * (7 * inner + 2 * crossing)
    assert seconds(group, "all_reduce", 1.0, "tree") == pytest.approx(tree_s, rel=1e-6)
    bound = 2 * 31 / 32 * 7 / 8 * GIB / 400e9
    assert seconds(group, "all_reduce", algorithm="ring") == pytest.approx(ring_s + bound, rel=1e-6)


def test_a_ring_crosses_each_of_three_levels_once_a_lap():
    near, far = plain(1e-6), plain(100e-6)
    group = Group(perfect(8), (Outside(4, 1e15, near), Outside(3, 1e15, far)))
    assert group.ranks == 96
    crossings = 2 * (9 * 1e-6 + 2 * 100e-6)  # eleven times from node to node, two of them between pods
    assert seconds(group, "all_reduce", 1.0, "ring") == pytest.approx(crossings, rel=1e-6)


def test_the_narrowest_level_binds():
    wide = Group(perfect(8), (Outside(4, 400e9, plain()), Outside(4, 400e9, plain())))
    narrow = Group(perfect(8), (Outside(4, 400e9, plain()), Outside(4, 100e9, plain())))
    assert seconds(narrow, "all_gather") == pytest.approx(4 * seconds(wide, "all_gather"))
    assert seconds(narrow, "all_to_all") == pytest.approx(
        max(8 * (1 - 1 / 16) / 400e9, 32 * (1 - 1 / 4) / 100e9) * GIB
    )


def test_two_nodes_swap_halves_and_exceed_the_sum_of_their_adapters():
    two = Group(perfect(8, 4000e9), (Outside(2, 400e9, plain()),))
    busbw = wire_share("all_reduce", 16) * GIB / seconds(two, "all_reduce")
    assert busbw == pytest.approx(15 / 8 * 400e9)
    four = Group(perfect(8, 4000e9), (Outside(4, 400e9, plain()),))
    assert wire_share("all_reduce", 32) * GIB / seconds(four, "all_reduce") == pytest.approx(400e9)


def test_phases_one_after_the_other_take_longer_than_pipelined_ones():
    group = Group(perfect(8), (Outside(4, 400e9, plain()),))
    pipelined, apart = (seconds(group, "all_gather", algorithm=name) for name in ("hierarchical", "separate"))
    assert apart == pytest.approx(7 / 8 * GIB / 400e9 + 3 / 4 * GIB / 400e9)
    assert pipelined == pytest.approx(7 / 8 * GIB / 400e9)
    assert seconds(group, "all_reduce", algorithm="separate") == pytest.approx(2 * apart)


def test_switches_that_add_up_halve_the_bytes_of_a_tree():
    group = Group(perfect(8, 1e15), (Outside(4, 100e9, plain()),))
    assert seconds(group, "all_reduce", algorithm="in_network") == pytest.approx(GIB / 100e9)
    assert seconds(group, "all_reduce", algorithm="hierarchical") == pytest.approx(2 * GIB / 100e9)


def test_auto_is_the_fastest_of_what_a_library_would_choose():
    group = Group(perfect(8), (Outside(16, 400e9, load_transport("infiniband")),))
    sizes = np.geomspace(1e3, 1e10, 40)
    names = ("ring", "tree", "hierarchical")
    each = np.stack([group_s(group, "all_reduce", sizes, name) for name in names])
    assert group_s(group, "all_reduce", sizes) == pytest.approx(each.min(axis=0))
    assert chosen(group, "all_reduce", sizes) == [names[i] for i in each.argmin(axis=0)]


@given(
    st.sampled_from(["infiniband", "roce", "efa"]),
    st.integers(1, 8),
    st.integers(1, 64),
    st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv"]),
)
def test_more_bytes_and_more_nodes_never_take_less(network, members, nodes, operation):
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    sizes = np.geomspace(1e2, 1e11, 50)
    transport = load_transport(network)

    def times(count: int) -> np.ndarray:
        group = Group(Inside(members, 450e9, curves), (Outside(count, members * 50e9, transport),))
        return group_s(group, operation, sizes)

    assert (np.diff(times(nodes)) >= 0).all()
    if nodes > 1:
        assert (times(2 * nodes) >= times(nodes) * (1 - 1e-12)).all()


def test_one_domain_is_priced_by_its_own_curves_and_nobody_waits_alone():
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    inside = Inside(8, 450e9, curves)
    sizes = np.geomspace(1e3, 1e9, 9)
    expected = collective_s(curves["all_reduce"], "all_reduce", 8, sizes, 450e9)
    assert group_s(Group(inside), "all_reduce", sizes) == pytest.approx(expected)
    one = Group(inside, (Outside(1, 400e9, plain()),))
    assert group_s(one, "all_reduce", sizes) == pytest.approx(expected)
    assert chosen(one, "all_reduce", sizes) == ["domain"] * 9
    assert seconds(Group(Inside(1, 450e9, curves)), "all_reduce") == 0.0
    assert seconds(one, "all_reduce", 0.0) == 0.0


def test_a_barrier_takes_the_latency_of_the_smallest_all_reduce():
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    group = Group(Inside(8, 450e9, curves), (Outside(4, 400e9, load_transport("infiniband")),))
    assert seconds(group, "barrier", 0.0) == pytest.approx(seconds(group, "all_reduce", 8.0))
    alone = collective_s(
        curve_of(load_efficiency("nvidia-hopper"), "nccl", "barrier"), "barrier", 8, [0.0], 1e9
    )
    assert alone[0] == pytest.approx(collective_s(curves["all_reduce"], "all_reduce", 8, [8.0], 1e9)[0])


def test_a_group_fills_whole_domains_evenly():
    inside = perfect(8)
    assert group_of(inside, 6, 50e9, plain()).outside == ()
    sixteen = group_of(inside, 16, 50e9, plain())
    assert (sixteen.inside.ranks, sixteen.domains, sixteen.outside[0].bytes_per_s) == (8, 2, 400e9)
    twelve = group_of(inside, 12, 50e9, plain())
    assert (twelve.inside.ranks, twelve.domains) == (6, 2)
    with pytest.raises(ClusterSimError, match="multiple of 2"):
        group_of(inside, 13, 50e9, plain())


def test_unknown_algorithms_and_networks_are_told():
    group = Group(perfect(8), (Outside(4, 400e9, load_transport("roce")),))
    with pytest.raises(UnknownNameError, match="did you mean 'ring'"):
        seconds(group, "all_reduce", algorithm="rign")
    with pytest.raises(UnknownNameError, match="algorithm of all_gather"):
        seconds(group, "all_gather", algorithm="tree")
    with pytest.raises(UnknownNameError, match="transport roce"):
        seconds(group, "all_reduce", algorithm="in_network")
    with pytest.raises(UnknownNameError, match="transport"):
        load_transport("myrinet")


# Links


def rail_network(nodes: int, rails_: int = 8, **changes: object) -> Topology:
    links = {
        "host": LinkClass(bandwidth=50e9),
        "leaf": LinkClass(bandwidth=400e9),
        "scale_up": LinkClass(bandwidth=450e9),
    }
    fields = {"links": links, "scale_up": ScaleUp(size=rails_), "routing": "ideal"} | changes
    return build(
        RailFatTree(name="rails", nodes=nodes, rails=rails_, nodes_per_leaf=nodes, spines=2, **fields)
    )


def adapters(topology: Topology, load: object) -> np.ndarray:
    """Return the bytes that leave each accelerator by its adapter."""
    host = topology.tiers.index("host")
    leaving = (topology.source < topology.endpoints) & (topology.tier[: topology.links] == host)
    found = np.zeros(topology.links)
    links = load.links < topology.links  # type: ignore[attr-defined]
    found[load.links[links]] = load.weights[links]  # type: ignore[attr-defined]
    return found[leaving]


@pytest.mark.parametrize("nodes", [2, 3, 4, 8])
def test_flat_rings_load_every_adapter_with_an_equal_part(nodes):
    topology = rail_network(nodes)
    load = link_load(topology, domain_rings("all_reduce", np.arange(8 * nodes), 8))
    ranks = 8 * nodes
    assert adapters(topology, load) == pytest.approx(np.full(ranks, 2 * (ranks - 1) / ranks / 8))
    # of its eight rings a rank passes seven on inside the node
    inner = topology.tier[load.links] == topology.tiers.index("scale_up")
    assert load.weights[inner] == pytest.approx(2 * (ranks - 1) / ranks * 7 / 8)


@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_rings_between_even_numbers_of_nodes_stay_on_their_rails(nodes):
    topology = rail_network(nodes)
    load = link_load(topology, domain_rings("all_gather", np.arange(8 * nodes), 8))
    assert (topology.tier[load.links] != topology.tiers.index("leaf")).all()


@pytest.mark.parametrize("nodes", [2, 4, 6])
def test_rails_carry_each_rank_s_share_of_the_buffer(nodes):
    ranks = np.arange(8 * nodes)
    load = link_load(rail_network(nodes), rails("ring", "all_reduce", ranks, 8))
    assert adapters(rail_network(nodes), load) == pytest.approx(2 * (nodes - 1) / nodes / 8)
    both = hierarchical("all_reduce", ranks, 8)
    assert sent(both) == pytest.approx(2 * 7 / 8 + 2 * (nodes - 1) / nodes / 8)


def test_an_exchange_by_rails_sends_as_much_outside_and_more_inside():
    topology = rail_network(4, routing={"mode": "ideal"})
    straight = traffic("pairwise", "all_to_all", np.arange(32))
    handed = rail_exchange(np.arange(32), 8)
    out, out_handed = (adapters(topology, link_load(topology, p)).sum() for p in (straight, handed))
    assert out == pytest.approx(out_handed) == pytest.approx(32 * 3 / 4)
    cross = topology.tiers.index("leaf")
    assert not (topology.tier[link_load(topology, handed).links] == cross).any()
    assert (topology.tier[link_load(topology, straight).links] == cross).any()
    assert sent(handed).sum() == pytest.approx(32 * (7 / 8 + 3 / 4))


def test_a_switch_that_adds_up_receives_the_buffer_once_and_the_sum_in_shares():
    assert sent(switched(np.arange(16), 8)) == pytest.approx(np.full(16, 9 / 8))


@given(st.integers(2, 6), st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"]))
def test_bytes_that_leave_ranks_arrive_on_links_hop_by_hop(nodes, operation):
    topology = rail_network(nodes)
    pairs = domain_rings(operation, np.arange(8 * nodes), 8)
    load = link_load(topology, pairs)
    single = load.links < topology.links  # bundles join switches only
    links, weights = load.links[single], load.weights[single]
    for end in (topology.source, topology.target):
        assert weights[end[links] < topology.endpoints].sum() == pytest.approx(sent(pairs).sum())


LAID: tuple[Operation, ...] = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "broadcast",
    "reduce",
    "send_recv",
)


@pytest.mark.parametrize("operation", LAID)
@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_links_alone_take_as_long_as_the_closed_form(operation, nodes):
    """Links are as fast as the data sheet says, and the transport reaches all of it."""
    topology, inside = rail_network(nodes), perfect(8, 450e9)
    placed = Placed(topology, np.arange(8 * nodes), inside, 50e9, plain())
    algorithm = "exchange" if operation in ("all_to_all", "send_recv") else "ring"
    load = activity(placed, operation, GIB, algorithm)
    by_links = load.latency_s + GIB / (topology.capacity_bytes_per_s[load.links] / load.weights).min()
    group = Group(inside, (Outside(nodes, 8 * 50e9, plain()),))
    assert by_links == pytest.approx(seconds(group, operation, algorithm=algorithm), rel=1e-6)
    assert load.alone_s(topology, GIB) == pytest.approx(by_links, rel=1e-6)
    assert group_on(placed, operation).outside[0].limit_bytes_per_s >= 8 * 50e9 * (1 - 1e-9)


def test_a_broadcast_along_chains_reaches_every_rank_once():
    pairs = domain_rings("broadcast", np.arange(32), 8)
    received = np.bincount(pairs.target, weights=pairs.share, minlength=32)
    assert received == pytest.approx(np.array([0.0, *[1.0] * 31]))
    back = domain_rings("reduce", np.arange(32), 8)
    assert sent(back) == pytest.approx(np.array([0.0, *[1.0] * 31]))


def test_oversubscription_narrows_what_a_group_reaches():
    links = {
        "host": LinkClass(bandwidth=50e9),
        "leaf": LinkClass(bandwidth=50e9),
        "scale_up": LinkClass(bandwidth=450e9),
    }
    inside = perfect(8, 450e9)

    def reached(spines: int) -> float:
        fabric = LeafSpine(
            name="leaves", leaves=4, hosts_per_leaf=8, spines=spines, links=links,
            scale_up=ScaleUp(size=8), routing="ideal",
        )  # fmt: skip
        placed = Placed(build(fabric), np.arange(32), inside, 50e9, plain())
        return seconds(group_on(placed, "all_gather"), "all_gather")

    assert reached(8) == pytest.approx(31 / 32 * GIB / 400e9)
    assert reached(2) == pytest.approx(4 * reached(8))


def test_a_group_that_no_network_divides_is_one_domain():
    fabric = LeafSpine(
        name="leaves", leaves=2, hosts_per_leaf=8, spines=2,
        links={name: LinkClass(bandwidth=50e9) for name in ("host", "leaf")}, routing="ideal",
    )  # fmt: skip
    lone = Placed(build(fabric), np.arange(8), perfect(8, 450e9), 50e9, plain())
    assert group_on(lone, "all_reduce").outside == ()
    with pytest.raises(ClusterSimError, match="do not divide"):
        group_on(Placed(build(fabric), np.arange(9), perfect(8), 50e9, plain()), "all_reduce")


# Collisions


def test_without_collisions_routing_costs_only_its_transport():
    at = Uplinks(16, 8, 8)
    assert slowdown(Routing(mode="ideal"), at) == 1.0
    assert slowdown(Routing(mode="spray"), at) == pytest.approx(1 / 0.93)
    assert slowdown(Routing(mode="lossless-ecmp"), at) == pytest.approx(
        slowdown(Routing(mode="ecmp"), at) / 0.82
    )


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 8))
def test_the_fullest_uplink_is_what_dice_say(uplinks, flows, pairs):
    """Against the same draw repeated: the mean of the maximum within five standard errors."""
    draw = np.random.default_rng(0)
    counts = draw.multinomial(flows * pairs, np.full(uplinks, 1 / uplinks), size=(400, 2))
    largest = counts.max(axis=(1, 2)) / pairs
    expected = fullest(Uplinks(2, uplinks, flows), pairs)
    tolerance = 5 * largest.std() / math.sqrt(400) + 0.035 * largest.mean() + 1e-9
    assert abs(expected - max(1.0, largest.mean())) <= tolerance


def test_collisions_agree_with_simulated_rings_on_leaf_spine_networks():
    """Our own max-min simulations: the slowest flow of a ring step, by leaf, uplinks and queue pairs."""
    file = DATA / "network" / "network_ecmp_factor.csv"
    if not file.is_file():
        pytest.skip("the simulated collision factors are not here")
    with file.open(encoding="utf-8", newline="") as text:
        rings = [row for row in csv.DictReader(text) if row["pattern"] == "ring"]
    off = []
    for row in rings:
        leaves, uplinks, hosts = (int(row[k]) for k in ("leaves", "uplinks_per_leaf", "hosts_per_leaf"))
        found = fullest(Uplinks(leaves, uplinks, hosts), int(row["qp_per_flow"]))
        off.append(found / float(row["step_time_factor"]) - 1.0)
    assert len(rings) > 40
    assert np.abs(off).mean() < 0.04
    assert abs(np.median(off)) < 0.02


def test_more_queue_pairs_spread_better():
    factors = [slowdown(Routing(mode="ecmp", queue_pairs=q), Uplinks(16, 32, 32)) for q in (1, 4, 16, 64)]
    assert factors == sorted(factors, reverse=True)
    with pytest.raises(ClusterSimError, match="1 or more"):
        fullest(Uplinks(0, 8, 8))


# Fits


def test_a_fit_finds_the_protocols_that_made_the_times():
    link = 450e9
    truth = CollectiveCurve(
        source=BY_HAND,
        protocols=(
            Protocol(launch=5e-6, step=1e-6, link_share=0.2),
            Protocol(launch=30e-6, step=0.5e-6, link_share=0.7),
        ),
    )
    start = CollectiveCurve(
        source=BY_HAND,
        protocols=(
            Protocol(launch=8e-6, step=0.7e-6, link_share=0.3),
            Protocol(launch=20e-6, step=1e-6, link_share=0.5),
        ),
    )
    ranks = np.repeat([2, 4, 8], 20)
    sizes = np.tile(np.geomspace(1e3, 1e9, 20), 3)
    times = np.concatenate([collective_s(truth, "all_reduce", n, sizes[:20], link) for n in (2, 4, 8)])
    measured = Measured("all_reduce", ranks, sizes, times)
    found = start.model_copy(update={"protocols": fitted(start, measured, link)})
    assert np.abs(errors(found, measured, link)).max() < 0.05
    assert np.abs(errors(found, measured, link)).mean() < 0.01
    assert np.abs(errors(start, measured, link)).mean() > 0.2


def test_a_fit_of_one_group_size_keeps_the_steps_it_cannot_see():
    start = load_efficiency("nvidia-hopper").collectives["nccl"]["all_gather"]
    sizes = np.geomspace(1e3, 1e9, 30)
    times = 1.2 * collective_s(start, "all_gather", 8, sizes, 450e9)
    measured = Measured("all_gather", np.full(30, 8), sizes, times)
    found = start.model_copy(update={"protocols": fitted(start, measured, 450e9)})
    assert np.abs(errors(found, measured, 450e9)).mean() < 0.01
    far = collective_s(found, "all_gather", 4, sizes, 450e9) / collective_s(
        start, "all_gather", 4, sizes, 450e9
    )
    assert ((far > 1.0) & (far < 1.4)).all()


def test_measurements_must_be_positive_and_of_one_length():
    with pytest.raises(ClusterSimError, match="positive"):
        Measured("all_reduce", np.array([2]), np.array([0.0]), np.array([1.0]))
    with pytest.raises(ClusterSimError, match="at least one"):
        Measured("all_reduce", np.array([2, 4]), np.array([1.0]), np.array([1.0]))


# Dispatch of experts' tokens

FREE = Wires(450e9, 50e9, 132)


def dispatch_curve(kind: str, **fields: object) -> DispatchCurve:
    return DispatchCurve.model_validate(
        {"copies": kind, "launch": 0.0, "norm": 20, "source": BY_HAND, **fields}
    )


def test_low_latency_kernels_send_a_copy_to_every_expert_on_other_nodes():
    curve = dispatch_curve("each", network_share={2: 0.9})
    at = Exchange(7168, 8, 256, ranks=32, nodes=4)
    row = 7168 * ROW_BYTES["fp8"]
    time_s = phase_s(curve, at, np.array([1000.0]), row, FREE)[0]
    assert time_s == pytest.approx(1000 * 8 * 3 / 4 * row / (0.9 * 50e9), rel=1e-6)


def test_normal_kernels_send_one_copy_to_each_node_that_holds_an_expert():
    curve = dispatch_curve("random", network_share={2: 0.9, 8: 0.5})
    at = Exchange(7168, 8, 256, ranks=16, nodes=2)
    assert copies(curve, at, 2) == pytest.approx(2 * (1 - 0.5**8))
    time_s = phase_s(curve, at, np.array([1000.0]), 7168.0, FREE)[0]
    assert time_s == pytest.approx(1000 * (1 - 0.5**8) * 7168 / (0.9 * 50e9), rel=1e-3)
    assert copies(dispatch_curve("balanced"), at, 4) == 4.0
    assert copies(dispatch_curve("each"), at, 4) == 8.0


def test_more_processors_help_until_the_wires_bind():
    kernels = load_dispatch("deepep").phases("normal", "hopper").dispatch
    tokens = np.array([65536.0])
    times = [
        float(phase_s(kernels, Exchange(7168, 8, 256, 8, 1, sms), tokens, 7392.0, FREE)[0])
        for sms in (4, 8, 16, 24, 132)
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] / times[1] > 1.8
    least = 65536 * 8 * (1 - (7 / 8) ** 8) * 7 / 8 * 7392 / 450e9
    assert times[-1] > least


def test_decoding_takes_low_latency_kernels_and_prefill_the_others():
    deepep = load_dispatch("deepep")
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    at = Exchange(7168, 8, 256, 32, 4)
    few, many = round_trip_s(deepep, at, np.array([64.0, 8192.0]), h100)
    modes = {mode: deepep.phases(mode, "hopper") for mode in ("low_latency", "between_nodes")}
    row, back = 7168 * ROW_BYTES["fp8"], 7168 * 2.0
    wires = Wires(h100.link_bandwidth, h100.network_bandwidth, 132)
    for mode, time_s, count in (("low_latency", few, 64.0), ("between_nodes", many, 8192.0)):
        tokens = np.array([count])
        both = phase_s(modes[mode].dispatch, at, tokens, row, wires) + phase_s(
            modes[mode].combine, at, tokens, back, wires
        )
        assert time_s == pytest.approx(both[0])


def test_ranks_that_hold_everything_send_nothing_and_wrong_layers_are_told():
    curve = dispatch_curve("each")
    assert phase_s(curve, Exchange(7168, 8, 256, 1), np.array([10.0]), 7168.0, FREE)[0] == 0.0
    assert phase_s(curve, Exchange(7168, 8, 256, 8), np.array([0.0]), 7168.0, FREE)[0] == 0.0
    with pytest.raises(ClusterSimError, match="do not divide over 3 nodes"):
        Exchange(7168, 8, 256, 16, 3)
    with pytest.raises(ClusterSimError, match="1 or more"):
        Exchange(7168, 0, 256, 16)
    with pytest.raises(ClusterSimError, match="no network_bandwidth"):
        phase_s(curve, Exchange(7168, 8, 256, 16, 2), np.array([1.0]), 7168.0, Wires(450e9, 0.0, 132))
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    two_sided, apart = load_dispatch("trtllm-two-sided"), Exchange(7168, 8, 256, 16, 2)
    with pytest.raises(ClusterSimError, match="no kernel for 16 ranks on 2 nodes"):
        round_trip_s(two_sided, apart, np.array([1.0]), h100)
    with pytest.raises(UnknownNameError, match="mode of trtllm-one-sided"):
        load_dispatch("trtllm-one-sided").phases("low_latency", "hopper")


def test_an_unmeasured_generation_takes_the_first_one_s_curves():
    deepep = load_dispatch("deepep")
    assert deepep.phases("normal", "blackwell-ultra") is deepep.modes["normal"]["blackwell"]
    assert deepep.phases("normal", "cdna3") is deepep.modes["normal"]["hopper"]
    assert deepep.phases("between_nodes", "blackwell") is deepep.modes["between_nodes"]["hopper"]


# Beyond a node


def replica(parallel: Parallel, model: str = "llama-3.1-70b", network: bool = True) -> Replica:
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    beyond = Network(8, 50e9, load_transport("infiniband"), load_dispatch("deepep")) if network else None
    described = load_card(Model, "workloads/models", model).transformer
    efficiency = load_efficiency("nvidia-hopper")
    return Replica(described, h100, efficiency, load_stack("vllm"), parallel, Precision(), None, beyond)


def parts(whole: Replica, tokens: float) -> dict[str, float]:
    return {name: float(price.total_s[0]) for name, price in pass_prices(whole, np.array([tokens]))}


def test_a_group_within_a_node_does_not_see_the_network():
    for ranks in (2, 8):
        inner, outer = (parts(replica(Parallel(ranks), network=n), 64.0) for n in (False, True))
        assert inner == outer


def test_tensor_parallelism_over_two_nodes_is_priced_over_their_adapters():
    whole = replica(Parallel(16))
    hidden = 2.0 * whole.model.hidden * 64.0
    curves = load_efficiency("nvidia-hopper").collectives["nccl"]
    group = Group(Inside(8, 450e9, curves), (Outside(2, 400e9, load_transport("infiniband")),))
    expected = (2 * whole.model.layers + 1) * seconds(group, "all_reduce", hidden)
    assert parts(whole, 64.0)["all-reduce"] == pytest.approx(expected)
    assert expected > 2 * parts(replica(Parallel(8)), 64.0)["all-reduce"]


def test_stages_on_other_nodes_hand_over_by_the_network():
    inside, over = replica(Parallel(4, 2)), replica(Parallel(8, 2))
    hidden = 2.0 * over.model.hidden * 4096.0
    pair = group_of(Inside(1, 1.0, {}), 2, 50e9, load_transport("infiniband"))
    handed = parts(over, 4096.0)["stage hand-over"]
    assert handed == pytest.approx(seconds(pair, "send_recv", hidden))
    assert handed > parts(inside, 4096.0)["stage hand-over"]
    mixed = parts(replica(Parallel(4, 4)), 4096.0)["stage hand-over"]
    assert mixed == pytest.approx(2 * parts(inside, 4096.0)["stage hand-over"] + handed)


def test_experts_beyond_a_node_are_reached_by_dispatch_kernels():
    whole = replica(Parallel(1, data=32, expert=32), "deepseek-v3")
    h100 = load_card(Accelerator, "topologies/accelerators", "h100-sxm")
    at = Exchange(7168, 8, 256, 32, 4)
    expected = 58 * round_trip_s(load_dispatch("deepep"), at, np.array([64.0]), h100, "bf16")[0]
    assert parts(whole, 32 * 64.0)["expert dispatch and combine"] == pytest.approx(expected)


# Cards


@pytest.mark.parametrize("name", list(card_files("topologies/transports")))
def test_every_transport_names_its_sources(name):
    transport = load_transport(name)
    for algorithm, curve in transport.curves():
        assert curve.source.kind in ("published", "fitted", "measured", "assumed"), algorithm
        assert all(0 < hop.link_share <= 1 for hop in curve.protocols)


@pytest.mark.parametrize("name", list(card_files("topologies/dispatch")))
def test_every_dispatch_kernel_states_its_held_out_error(name):
    kernels = load_dispatch(name)
    curves = [
        (mode, phase, getattr(phases, phase))
        for mode, generations in kernels.modes.items()
        for phases in generations.values()
        for phase in ("dispatch", "combine")
    ]
    for mode, phase, curve in curves:
        assert curve.error is not None, (mode, phase)
        assert curve.error.split == "held-out"
        assert curve.error.mape <= 0.15
