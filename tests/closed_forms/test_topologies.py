"""Topologies against closed forms and against searches on the graphs that they are."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from clustersim.errors import ClusterSimError, SpecError, UnknownNameError
from clustersim.network.build import build, summary
from clustersim.network.collisions import busiest_path, slowdown
from clustersim.network.route import Traffic, link_load, path_latency_s, routes
from clustersim.network.topology import Topology
from clustersim.spec.base import Spec, card_files
from clustersim.spec.fabric import CARDS, MODES, AnyFabric, Fabric, Graph, Torus, load_fabric, of_node
from clustersim.spec.load import load_spec
from clustersim.spec.node import Node

LINK = {"bandwidth": 1e9, "latency": 1e-6}


def fabric(kind: str, tiers: str = "", **fields: Any) -> Any:
    """Return a fabric whose links are all alike."""
    links = dict.fromkeys(tiers.split(), LINK)
    data = {"kind": kind, "name": kind, "links": links, **fields}
    adapter: TypeAdapter[Fabric] = TypeAdapter(AnyFabric)
    return adapter.validate_python(data)


PXN = {"mode": "ecmp", "pxn": True}
RAILS = {"nodes": 8, "rails": 4, "nodes_per_leaf": 4, "spines": 4}
SMALL: dict[str, Any] = {
    "switch": fabric("node", "scale_up", accelerators=8),
    "mesh": fabric("node", "scale_up", accelerators=6, layout="mesh"),
    "pcie": fabric(
        "node", "lane uplink memory socket", accelerators=8, layout="pcie", sockets=2, switches_per_socket=2
    ),
    "one-socket": fabric("node", "lane uplink memory", accelerators=4, layout="pcie", switches_per_socket=2),
    "nvl": fabric("scale-up", "scale_up", accelerators=12),
    "two-tier": fabric("scale-up", "scale_up spine", accelerators=32, groups=4, spines=2, links_per_spine=4),
    "leaf-spine": fabric("leaf-spine", "host leaf", leaves=4, hosts_per_leaf=6, spines=2, links_per_spine=2),
    "k4": fabric("fat-tree", "host leaf spine", radix=4),
    "k6-2to1": fabric("fat-tree", "host leaf spine", radix=6, oversubscription=2),
    "tapered": fabric(
        "fat-tree",
        "host leaf spine",
        hosts_per_leaf=3,
        leaves_per_pod=2,
        pods=4,
        spines_per_pod=4,
        cores_per_spine=1,
        core_groups=2,
    ),
    "rails": fabric("rail-fat-tree", "host leaf", **RAILS),
    "rails-pxn": fabric("rail-fat-tree", "host leaf scale_up", **RAILS, scale_up={"size": 4}, routing=PXN),
    "isolated": fabric(
        "rail-fat-tree",
        "host leaf scale_up",
        **RAILS,
        isolated=True,
        scale_up={"size": 4, "layout": "mesh"},
        routing=PXN,
    ),
    "planes": fabric(
        "multi-plane",
        "scale_up",
        planes=2,
        plane=fabric("rail-fat-tree", "host leaf", **RAILS),
        scale_up={"size": 4},
        routing=PXN,
    ),
    "dragonfly": fabric("dragonfly", "host local global", groups=9, routers=4, hosts=2, global_ports=2),
    "dragonfly-2": fabric(
        "dragonfly", "host local global", groups=4, routers=4, hosts=2, global_ports=2, links_per_pair=2
    ),
    "dragonfly-plus": fabric(
        "dragonfly-plus",
        "host local global",
        groups=4,
        leaves=4,
        spines=4,
        hosts=2,
        global_ports=2,
        links_per_pair=2,
    ),
    "torus": fabric("torus", "ici", dimensions=(4, 4, 4)),
    "cubes": fabric("torus", "ici optical", dimensions=(4, 4, 8), cube=4),
    "half-open": fabric("torus", "ici", dimensions=(5, 4), wrap=(True, False)),
    "twisted": fabric("torus", "ici", dimensions=(4, 8), twisted=True),
    "twisted-3d": fabric("torus", "ici", dimensions=(4, 4, 8), twisted=True),
    "twisted-long": fabric("torus", "ici", dimensions=(4, 8, 8), twisted=True),
    "line": fabric("torus", "ici", dimensions=(2, 2, 1)),
    "hyperx": fabric("hyperx", "host switch", dimensions=(4, 4), hosts=2),
    "hyperx-3d": fabric("hyperx", "host switch", dimensions=(2, 3, 4), hosts=2, links_per_pair=2),
    "full-mesh": fabric("full-mesh", "mesh", accelerators=6),
}
SITES = [
    {"name": "east", "fabric": SMALL["rails-pxn"], "border": 4},
    {"name": "west", "fabric": SMALL["leaf-spine"], "border": 2},
    {"name": "north", "fabric": SMALL["torus"], "border": 1},
]
LINES = [{"between": ["east", "west"], "link": "fibre"}, {"between": ["west", "north"], "link": "fibre"}]
SMALL["sites"] = fabric("wan", "fibre", sites=SITES, lines=LINES)
SMALL["petersen"] = Graph(
    name="petersen",
    links={"cable": LINK},
    edges=[{"source": str(a), "target": str(b), "link": "cable"} for a, b in nx.petersen_graph().edges],
    endpoints=[str(i) for i in range(10)],
)
BUILT: dict[str, Topology] = {name: build(each) for name, each in SMALL.items()}
MINIMAL = sorted(set(BUILT) - {"rails-pxn", "isolated", "planes", "sites", "dragonfly", "dragonfly-2"})
"""Where paths are shortest in links: not where they hop inside a node first, nor dragonflies, which
count global links."""


def pairs(topology: Topology) -> tuple[Any, Any]:
    """Return every ordered pair of endpoints."""
    n = topology.endpoints
    source, target = np.divmod(np.arange(n * n), n)
    return source[source != target], target[source != target]


def hops(topology: Topology, path: Any) -> list[tuple[int, int]]:
    """Return the ends of the links of a path, in order."""
    return [(int(topology.source[e]), int(topology.target[e])) for e in path if e >= 0]


def distances(topology: Topology) -> dict[int, dict[int, int]]:
    graph = nx.DiGraph(zip(topology.source.tolist(), topology.target.tolist(), strict=True))
    return {end: nx.single_source_shortest_path_length(graph, end) for end in range(topology.endpoints)}


# Paths


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("flow", [0, 7])
def test_every_path_leads_from_its_source_to_its_target(name: str, flow: int) -> None:
    topology = BUILT[name]
    source, target = pairs(topology)
    for mode in topology.wiring.modes:
        if mode == "spread":
            continue
        for a, b, path in zip(source, target, routes(topology, source, target, flow, mode), strict=True):
            walk = hops(topology, path)
            assert walk[0][0] == a
            assert walk[-1][1] == b
            assert all(end == start for (_, end), (start, _) in pairwise(walk))


@pytest.mark.parametrize("name", MINIMAL)
def test_minimal_paths_are_as_short_as_a_search_finds(name: str) -> None:
    topology = BUILT[name]
    source, target = pairs(topology)
    known = distances(topology)
    shortest = np.array([known[a][b] for a, b in zip(source.tolist(), target.tolist(), strict=True)])
    for mode in ("ecmp", "single"):
        assert ((routes(topology, source, target, 3, mode) >= 0).sum(axis=1) == shortest).all()


@pytest.mark.parametrize("name", sorted(set(BUILT) - {"petersen"}))
def test_the_diameter_is_the_longest_path(name: str) -> None:
    topology = BUILT[name]
    longest = max(
        int((routes(topology, *pairs(topology), flow, "ecmp") >= 0).sum(axis=1).max()) for flow in range(6)
    )
    assert longest == topology.wiring.diameter


@pytest.mark.parametrize("name", ["dragonfly", "dragonfly-2"])
def test_a_dragonfly_crosses_at_most_one_global_link_and_its_groups_all_meet(name: str) -> None:
    topology = BUILT[name]
    paths = routes(topology, *pairs(topology))
    far = topology.tiers.index("global")
    assert ((topology.tier[paths] == far) & (paths >= 0)).sum(axis=1).max() == 1
    router = topology.layers[1]
    between = topology.tier[: topology.links] == far
    group = (np.stack([topology.source, topology.target])[:, between] - router.first) // 4
    counts = nx.DiGraph(list(zip(*group.tolist(), strict=True)))
    assert len(counts) == SMALL[name].groups
    assert counts.number_of_edges() == SMALL[name].groups * (SMALL[name].groups - 1)


def test_rails_stay_apart_but_inside_nodes_with_pxn() -> None:
    """Between rails the first hop is inside the sender's node, to its accelerator on the receiver's rail."""
    topology = BUILT["rails-pxn"]
    path = routes(topology, 0, 4 * 4 + 2)[0]
    tiers = [topology.tier_of(link) for link in path if link >= 0]
    assert tiers == ["scale_up", "scale_up", "host", "leaf", "leaf", "host"]
    assert hops(topology, path)[1][1] == 2
    near = routes(topology, 0, 4 + 2)[0]
    assert [topology.tier_of(link) for link in near if link >= 0] == ["scale_up", "scale_up", "host", "host"]
    same = routes(topology, 1, 4 * 7 + 1)[0]
    assert [topology.tier_of(link) for link in same if link >= 0] == ["host", "leaf", "leaf", "host"]


def test_the_detour_of_valiant_passes_a_third_group() -> None:
    topology = BUILT["dragonfly"]
    far = topology.tiers.index("global")
    paths = np.concatenate([routes(topology, 0, 70, flow, "valiant") for flow in range(64)])
    crossings = ((topology.tier[paths] == far) & (paths >= 0)).sum(axis=1)
    assert set(crossings.tolist()) == {1, 2}
    assert (crossings == 2).mean() > 0.6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 2**32),
    st.integers(0, 2**32),
)
def test_a_torus_path_is_as_long_as_the_sum_of_ring_distances_and_the_same_back(
    dimensions: list[int], wrap: bool, a: int, b: int
) -> None:
    torus = fabric("torus", "ici", dimensions=dimensions, wrap=wrap)
    topology = build(torus)
    a, b = a % torus.size, b % torus.size
    if a == b:
        return
    there, back = (int((routes(topology, *ends)[0] >= 0).sum()) for ends in ((a, b), (b, a)))
    places = [np.unravel_index(end, dimensions) for end in (a, b)]
    apart = [abs(int(x) - int(y)) for x, y in zip(*places, strict=True)]
    wanted = sum(min(x, n - x) if wrap and n > 2 else x for x, n in zip(apart, dimensions, strict=True))
    assert there == back == wanted


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_paths_of_random_fat_trees_are_symmetric_in_length_and_latency(data: st.DataObject) -> None:
    number = st.integers(1, 4)
    names = ("hosts_per_leaf", "leaves_per_pod", "pods", "spines_per_pod", "cores_per_spine")
    tree = fabric("fat-tree", "host leaf spine", **{name: data.draw(number) for name in names})
    topology = build(tree)
    end = st.integers(0, tree.size - 1)
    a, b, flow = data.draw(end), data.draw(end), data.draw(st.integers(0, 99))
    there, back = routes(topology, a, b, flow), routes(topology, b, a, flow)
    assert (there >= 0).sum() == (back >= 0).sum()
    assert path_latency_s(topology, there)[0] == pytest.approx(path_latency_s(topology, back)[0])
    if a != b:
        assert (there >= 0).sum() in (2, 4, 6)


def test_flows_hash_evenly_and_repeatably() -> None:
    topology = BUILT["leaf-spine"]
    paths = routes(topology, 0, 23, np.arange(4000))
    ups = np.unique(paths[:, 1], return_counts=True)[1]
    assert len(ups) == 4
    assert ups.min() > 900
    assert (routes(topology, 0, 23, np.arange(4000)) == paths).all()


@pytest.mark.parametrize("name", ["k4", "leaf-spine", "rails", "two-tier", "tapered", "planes"])
def test_a_spread_flow_uses_bundles_that_stand_for_all_its_paths(name: str) -> None:
    """The load of a bundle is what its links carry together when every path gets an equal part."""
    topology = BUILT[name]
    source, target = pairs(topology)
    ways = topology.wiring.ways
    every = np.arange(ways, dtype=np.uint64)
    for a, b in list(zip(source.tolist(), target.tolist(), strict=True))[::7]:
        ends = np.full(ways, a), np.full(ways, b)
        split = topology.wiring.paths(*ends, every, "ecmp")
        by_tier = {
            tier: float((topology.tier[split[split >= 0]] == number).sum() / ways)
            for number, tier in enumerate(topology.tiers)
        }
        load = link_load(topology, Traffic.of(a, b), "spread")
        bundled = np.bincount(topology.tier[load.links], weights=load.weights, minlength=len(topology.tiers))
        assert dict(zip(topology.tiers, bundled.tolist(), strict=True)) == pytest.approx(by_tier)


def test_a_bundle_has_the_capacity_of_its_links() -> None:
    topology = BUILT["k4"]
    for number, tier in enumerate(topology.tiers):
        of_tier = topology.tier == number
        links = topology.capacity_bytes_per_s[: topology.links][of_tier[: topology.links]].sum()
        bundles = topology.capacity_bytes_per_s[topology.links :][of_tier[topology.links :]].sum()
        assert bundles in (0, links), tier


def test_all_bytes_of_a_load_leave_the_source_and_reach_the_target() -> None:
    topology = BUILT["torus"]
    load = link_load(topology, Traffic.of([0, 5], [63, 9], [1.0, 0.25]), "spread")
    out = load.weights[topology.source[load.links] == 0].sum()
    into = load.weights[topology.target[load.links] == 9].sum()
    assert out >= 1.0
    assert into == pytest.approx(0.25)
    assert load.latency_s == pytest.approx(3e-6)


# Counts


@pytest.mark.parametrize("k", [4, 8, 16])
def test_a_fat_tree_of_radix_k_has_the_counts_of_the_textbook(k: int) -> None:
    """Al-Fares et al. 2008: k pods, k**2 / 2 leaves and spines each, (k / 2)**2 cores, k**3 / 4 hosts."""
    facts = summary(build(fabric("fat-tree", "host leaf spine", radix=k)))
    assert facts["endpoints"] == k**3 // 4
    assert facts["leaf_count"] == facts["spine_count"] == k * k // 2
    assert facts["core_count"] == (k // 2) ** 2
    assert facts["host_links"] == facts["leaf_links"] == facts["spine_links"] == 2 * k**3 // 4
    assert facts["bisection_share"] == 1.0


@pytest.mark.parametrize(
    ("units", "leaves", "spines", "cores", "shape"),
    [
        (2, 16, 8, 0, {"spines": 8, "links_per_spine": 4}),
        (4, 32, 16, 0, {"spines": 16, "links_per_spine": 2}),
        (8, 64, 32, 0, {"spines": 32}),
        (16, 128, 128, 64, {"spines": 32, "leaves_per_pod": 32, "cores_per_spine": 32, "core_groups": 2}),
        (32, 256, 256, 128, {"spines": 32, "leaves_per_pod": 32, "cores_per_spine": 32, "core_groups": 4}),
        (64, 512, 512, 256, {"spines": 32, "leaves_per_pod": 32, "cores_per_spine": 32, "core_groups": 8}),
    ],
)
def test_superpods_have_the_published_numbers_of_switches_and_cables(
    units: int, leaves: int, spines: int, cores: int, shape: dict[str, int]
) -> None:
    """NVIDIA DGX SuperPOD reference architecture (B200), table of scalable units of 32 nodes."""
    tiers = "host leaf spine" if cores else "host leaf"
    rails = fabric("rail-fat-tree", tiers, nodes=32 * units, rails=8, nodes_per_leaf=32, **shape)
    topology = build(rails)
    facts = summary(topology)
    found = (facts["leaf_count"], facts["spine_count"], facts.get("core_count", 0))
    assert found == (leaves, spines, cores)
    assert facts["endpoints"] == facts["host_links"] // 2 == facts["leaf_links"] // 2 == 256 * units
    assert facts.get("spine_links", 0) // 2 == (256 * units if cores else 0)
    ports = np.bincount(topology.source, minlength=topology.vertices)
    assert set(ports[topology.endpoints :].tolist()) == {64}


def test_frontier_can_send_57_percent_of_its_injection_out_of_a_group() -> None:
    """glennklockwood.com/garden/systems/frontier: 102.4 Tb/s injected, 58.4 Tb/s to the other 73 groups."""
    topology = build(load_fabric("frontier"))
    facts = summary(topology)
    assert facts["router_count"] == 74 * 32
    assert facts["local_links"] == 74 * 992
    assert facts["global_links"] / facts["host_links"] * 2 == pytest.approx(58.4 / 102.4, rel=1e-3)
    assert topology.wiring.ways == 4


def test_a_tpu_v4_pod_has_as_many_optical_links_as_its_switches_have_ports() -> None:
    """Jouppi et al. 2023: 48 optical switches of 128 ports serve 64 cubes with 96 optical links each."""
    facts = summary(build(load_fabric("tpu-v4-pod")))
    assert facts["optical_links"] == 48 * 128 == 64 * 96
    assert facts["ici_links"] + facts["optical_links"] == 6 * 4096


def test_hpn_has_segments_of_1024_accelerators_and_a_port_in_either_plane() -> None:
    facts = summary(build(load_fabric("hpn-pod-15k")))
    assert facts["endpoints"] == 15 * 1024
    assert facts["host_links"] == 2 * 2 * 15 * 1024
    assert facts["leaf_count"] == 2 * 8 * 15


@pytest.mark.parametrize(
    ("name", "layers", "links"),
    [
        ("switch", {"switch": 1}, {"scale_up": 16}),
        ("mesh", {}, {"scale_up": 30}),
        ("pcie", {"switch": 4, "root": 2}, {"lane": 16, "uplink": 8, "memory": 4, "socket": 2}),
        ("two-tier", {"leaf": 4, "spine": 2}, {"scale_up": 64, "spine": 64}),
        ("leaf-spine", {"leaf": 4, "spine": 2}, {"host": 48, "leaf": 32}),
        ("k6-2to1", {"leaf": 18, "spine": 12, "core": 6}, {"host": 144, "leaf": 72, "spine": 72}),
        ("tapered", {"leaf": 8, "spine": 16, "core": 2}, {"host": 48, "leaf": 64, "spine": 32}),
        ("rails-pxn", {"node switch": 8, "leaf": 8, "spine": 4}, {"scale_up": 64, "host": 64, "leaf": 64}),
        ("isolated", {"leaf": 8, "spine": 16}, {"scale_up": 96, "host": 64, "leaf": 64}),
        ("planes", {"node switch": 8, "leaf": 16, "spine": 8}, {"scale_up": 64, "host": 128, "leaf": 128}),
        ("dragonfly", {"router": 36}, {"host": 144, "local": 108, "global": 72}),
        ("dragonfly-plus", {"leaf": 16, "spine": 16}, {"host": 64, "local": 128, "global": 24}),
        ("torus", {}, {"ici": 384}),
        ("cubes", {}, {"ici": 576, "optical": 192}),
        ("half-open", {}, {"ici": 70}),
        ("twisted-3d", {}, {"ici": 768}),
        ("line", {}, {"ici": 8}),
        ("hyperx", {"switch": 16}, {"host": 64, "switch": 96}),
        ("hyperx-3d", {"switch": 24}, {"host": 96, "switch": 288}),
        ("full-mesh", {}, {"mesh": 30}),
    ],
)
def test_switches_and_links_are_as_many_as_the_shape_says(
    name: str, layers: dict[str, int], links: dict[str, int]
) -> None:
    facts = summary(BUILT[name])
    counted = {key: value for key, value in facts.items() if key.endswith("_count")}
    assert counted == {f"{layer.replace(' ', '_')}_count": count for layer, count in layers.items()}
    assert {tier: facts[f"{tier}_links"] for tier in BUILT[name].tiers} == links


def halves(name: str) -> tuple[list[int], list[int]]:
    """Return the halves of the endpoints that the closed form divides: nodes, pods, groups, rows."""
    n = BUILT[name].endpoints
    if name in ("pcie", "one-socket"):
        n = SMALL[name].accelerators
    if name in ("torus", "cubes", "line"):
        longest = int(np.argmax(SMALL[name].dimensions))
        place = np.unravel_index(np.arange(n), SMALL[name].dimensions)[longest]
        return _split(place < SMALL[name].dimensions[longest] // 2)
    return _split(np.arange(n) < n // 2)


def _split(first: Any) -> tuple[list[int], list[int]]:
    return np.flatnonzero(first).tolist(), np.flatnonzero(~first).tolist()


@pytest.mark.parametrize(
    "name",
    [
        "switch",
        "mesh",
        "pcie",
        "one-socket",
        "two-tier",
        "leaf-spine",
        "k4",
        "tapered",
        "rails",
        "torus",
        "cubes",
        "line",
        "hyperx",
        "full-mesh",
        "dragonfly-2",
        "dragonfly-plus",
    ],
)
def test_the_bisection_is_the_largest_flow_between_two_halves(name: str) -> None:
    topology = BUILT[name]
    graph = nx.DiGraph()
    for a, b in zip(topology.source.tolist(), topology.target.tolist(), strict=True):
        before = graph.get_edge_data(a, b, {"capacity": 0.0})["capacity"]
        graph.add_edge(a, b, capacity=before + 1.0)
    for side, ends in zip(("from", "to"), halves(name), strict=True):
        for end in ends:
            graph.add_edge(*(("from", end) if side == "from" else (end, "to")))
    largest = nx.maximum_flow_value(graph, "from", "to")
    assert topology.wiring.bisection_bytes_per_s == pytest.approx(largest * 1e9)


def test_two_equal_sites_are_divided_by_the_lines_between_them() -> None:
    topology = build(load_fabric("two-sites"))
    assert topology.wiring.bisection_bytes_per_s == pytest.approx(6.4e12 / 8 * 0.95)
    assert topology.endpoints == 2 * (1024 - 16)
    assert topology.wiring.modes == ("ecmp",)
    path = routes(topology, 3, 1008 + 3)[0]
    assert [topology.tier_of(e) for e in path if e >= 0].count("fibre") == 1


# Slices of an optical torus


def test_optical_circuits_make_any_slice_of_whole_cubes() -> None:
    pod = load_fabric("tpu-v4-pod")
    assert isinstance(pod, Torus)
    small, large = pod.slice(2, 2, 4), pod.slice(4, 4, 8, twisted=True)
    assert small.wraps == (False, False, False)
    assert small.size == 16
    assert large.wraps == (True, True, True)
    plain, twisted = build(pod.slice(4, 4, 8)), build(large)
    assert (plain.wiring.diameter, twisted.wiring.diameter) == (8, 6)
    for shape, message in [
        ((16, 16, 20), "5,120 of 4,096 chips"),
        ((4, 6, 8), "not made of cubes of 4"),
    ]:
        with pytest.raises(ClusterSimError, match=message):
            pod.slice(*shape)
    with pytest.raises(ClusterSimError, match="no optical circuits"):
        SMALL["torus"].slice(2, 2, 2)


# Graphs


def test_a_graph_survives_the_way_to_networkx_and_back() -> None:
    first = BUILT["k4"]
    again = build(Graph.of(first.to_networkx(), name="again"))
    assert (again.endpoints, again.vertices, again.links) == (16, 36, 96)
    assert sorted(again.capacity_bytes_per_s) == sorted(first.capacity_bytes_per_s[: first.links])
    source, target = pairs(first)
    ends = again.names[:16]
    number = [ends.index(first.vertex_name(v)) for v in range(16)]
    moved = np.array(number)[source], np.array(number)[target]
    longest = (routes(again, *moved) >= 0).sum(axis=1)
    assert (longest == (routes(first, source, target) >= 0).sum(axis=1)).all()
    assert again.tier_of(0) in first.tiers


@pytest.mark.parametrize("kind", ["csv", "graphml", "json"])
def test_networks_are_read_from_files(tmp_path: Path, kind: str) -> None:
    graph = nx.Graph()
    graph.add_edge("a", "s", bandwidth_bytes_per_s=2e9, latency_s=1e-6)
    graph.add_edge("b", "s", bandwidth_bytes_per_s=3e9, latency_s=1e-6)
    file = tmp_path / f"net.{kind}"
    if kind == "csv":
        file.write_text("source,target,bandwidth,latency\na,s,2 GB/s,1 us\nb,s,24 Gb/s,1 us\n")
    elif kind == "graphml":
        nx.write_graphml(graph, file)
    else:
        file.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    spec = tmp_path / "fabric.yaml"
    spec.write_text(f"fabric: {{kind: graph, name: mine, file: net.{kind}}}\n")
    topology = build(load_spec(Holder, spec).fabric)
    assert topology.names[:2] == ("a", "b")
    load = link_load(topology, Traffic.of(0, 1))
    assert load.latency_s == pytest.approx(2e-6)
    assert load.alone_bytes_per_s(topology) == 2e9


class Holder(Spec):
    """Something that holds a fabric."""

    fabric: AnyFabric


def test_one_way_edges_lead_one_way() -> None:
    ring = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")])
    nx.set_edge_attributes(ring, "1 GB/s", "bandwidth")
    topology = build(Graph.of(ring, endpoints=["a", "b", "c"]))
    assert topology.links == 3
    assert len(hops(topology, routes(topology, 0, 2)[0])) == 2
    assert len(hops(topology, routes(topology, 2, 0)[0])) == 1


# Names


def test_vertices_and_links_have_names_that_lead_back() -> None:
    topology = BUILT["pcie"]
    assert topology.vertex_name(9) == "memory 1"
    assert topology.endpoint("memory 1") == 9
    assert topology.endpoint("accelerator 3") == 3
    assert topology.resource_name(0) == "accelerator 0 > switch 0"
    with pytest.raises(UnknownNameError, match="accelerator 12"):
        topology.endpoint("accelerator 12")
    assert BUILT["k4"].resource_name(BUILT["k4"].links).endswith("bundle 0")
    assert BUILT["petersen"].endpoint("7") == 7


def test_the_graph_for_drawing_has_every_layer_and_tier() -> None:
    graph = BUILT["leaf-spine"].to_networkx()
    assert {data["layer"] for _, data in graph.nodes(data=True)} == {"accelerator", "leaf", "spine"}
    edge = graph.edges["leaf 0", "spine 1"]
    assert (edge["links"], edge["bandwidth_bytes_per_s"], edge["tier"]) == (2, 2e9, "leaf")


# Cards


@pytest.mark.parametrize("name", card_files(CARDS))
def test_every_card_builds_and_says_where_its_numbers_come_from(name: str) -> None:
    card = load_fabric(name)
    topology = build(card)
    assert set(card.sources) == {"shape", *card.links}
    assert topology.endpoints >= card.size
    assert (topology.capacity_bytes_per_s > 0).all()
    source = np.arange(min(64, topology.endpoints - 1))
    load = link_load(topology, Traffic.of(source, source + 1))
    assert load.alone_bytes_per_s(topology) > 0
    assert 0 < load.latency_s < 0.01
    assert card.note


def test_the_inside_of_every_node_of_the_catalogue_is_a_fabric() -> None:
    from clustersim.spec.base import load_card

    for name in card_files("topologies/nodes"):
        node = load_card(Node, "topologies/nodes", name)
        topology = build(of_node(node))
        if node.accelerators > 1 and node.link.kind not in ("none", "pcie"):
            sent = topology.capacity_bytes_per_s[: topology.links][topology.source == 0].sum()
            assert sent == pytest.approx(node.link.bandwidth), name


# Mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: leaf-spin, name: x}", "unknown kind 'leaf-spin'; allowed: .*did you mean 'leaf-spine'"),
        ("nvl27", "unknown fabric 'nvl27'; allowed: .*did you mean 'nvl72'"),
        ("{kind: full-mesh, name: x, accelerators: 4}", "fabric.links: .*needs the class 'mesh'"),
        (
            "{kind: full-mesh, name: x, accelerators: 4, links: {mesh: {bandwidth: 0 GB/s}}}",
            "1:68: fabric.links.mesh.bandwidth: input should be greater than 0, not '0 GB/s'",
        ),
        (
            "{kind: full-mesh, name: x, accelerators: 4, links: {mesh: {bandwidth: -1 GB/s}}}",
            "mesh.bandwidth: '-1 GB/s' is not allowed: a bandwidth is finite and not negative",
        ),
        (
            "{kind: full-mesh, name: x, accelerators: 4, links: {mesh: {bandwidth: 5}}}",
            "mesh.bandwidth: 5 needs a unit",
        ),
        (
            "{kind: full-mesh, name: x, accelerators: 4, links: {mash: {bandwidth: 1 GB/s}}}",
            "needs the class 'mesh'; this shape has: mesh",
        ),
        (
            "{kind: torus, name: x, dimensions: [16, 16, 15], accelerators: 4096, "
            "links: {ici: {bandwidth: 1 GB/s}}}",
            "fabric.dimensions: 16x16x15 makes 3,840, not 4,096",
        ),
        (
            "{kind: torus, name: x, dimensions: [4, 6], twisted: true, links: {ici: {bandwidth: 1 GB/s}}}",
            "fabric.twisted: needs a wrapped shape of n and 2n, such as 4x4x8, not 4x6",
        ),
        (
            "{kind: fat-tree, name: x, radix: 7, links: {host: &c {bandwidth: 1 GB/s}, leaf: *c, spine: *c}}",
            "fabric.radix: 7 ports do not divide",
        ),
        (
            "{kind: fat-tree, name: x, pods: 3, links: {host: &c {bandwidth: 1 GB/s}, leaf: *c, spine: *c}}",
            "fabric.hosts_per_leaf: is required where there is no radix",
        ),
        (
            "{kind: dragonfly, name: x, groups: 9, routers: 2, hosts: 2, global_ports: 2, links: "
            "{host: &c {bandwidth: 1 GB/s}, local: *c, global: *c}}",
            "fabric.global_ports: a group has 4 global ports, and 9 groups need 8",
        ),
        (
            "{kind: rail-fat-tree, name: x, nodes: 10, rails: 4, nodes_per_leaf: 4, spines: 2, links: "
            "{host: &c {bandwidth: 1 GB/s}, leaf: *c}}",
            "fabric.nodes_per_leaf: 4 does not divide 10 nodes",
        ),
        (
            "{kind: leaf-spine, name: x, leaves: 2, hosts_per_leaf: 3, spines: 1, scale_up: {size: 4}, "
            "links: {host: &c {bandwidth: 1 GB/s}, leaf: *c, scale_up: *c}}",
            "fabric.scale_up.size: 4 does not divide the 6 accelerators",
        ),
        (
            "{kind: leaf-spine, name: x, leaves: 2, hosts_per_leaf: 3, spines: 1, routing: spary, links: "
            "{host: {bandwidth: 1 GB/s}, leaf: {bandwidth: 1 GB/s}}}",
            "fabric.routing.mode: input should be 'ecmp', 'lossless-ecmp', 'spray'",
        ),
        (
            "{kind: wan, name: x, sites: [{name: a, fabric: nvl72}, {name: b, fabric: nvl72}], "
            "lines: [{between: [a, c], link: f}], links: {f: {bandwidth: 1 GB/s}}}",
            "fabric.lines.0.between: unknown site 'c'; allowed: a, b",
        ),
        (
            "{kind: graph, name: x, edges: [{source: a, target: b, bandwidth: 1 GB/s}], endpoints: [a, z]}",
            "fabric.endpoints.1: 'z' is at the end of no edge; allowed: a, b",
        ),
        (
            "{kind: graph, name: x, edges: [{source: a, target: a, bandwidth: 1 GB/s}]}",
            "fabric.edges.0.target: 'a' is joined to itself",
        ),
        (
            "{kind: wan, name: x, sites: [{name: a, fabric: nvl72}, {name: b, fabric: nvl72}], "
            "routing: spray, lines: [{between: [a, b], link: f}], links: {f: {bandwidth: 1 GB/s}}}",
            "fabric.routing.mode: every site routes as its own fabric says",
        ),
        (
            "{kind: multi-plane, name: x, planes: 2, plane: {kind: leaf-spine, name: y, leaves: 2, "
            "hosts_per_leaf: 2, spines: 1, routing: spray, links: "
            "{host: &c {bandwidth: 1 GB/s}, leaf: *c}}}",
            "fabric.plane.routing: belongs to the whole",
        ),
        ("{kind: graph, name: x, file: none.csv}", "fabric.file: no file 'none.csv'"),
        ("{kind: graph, name: x, file: fabric.yaml}", "names itself"),
    ],
)
def test_a_mistake_in_a_fabric_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "fabric.yaml"
    file.write_text(f"fabric: {text}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=message) as caught:
        load_spec(Holder, file)
    assert all(line.startswith(f"{file}:") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("edges", "endpoints", "message"),
    [
        ([("a", "b"), ("c", "d")], "abcd", "in pieces: there is no path from 'a' to 'c' and 1 more of 4"),
        ([("a", "b"), ("b", "a"), ("b", "c")], "", "has no endpoints"),
    ],
)
def test_a_graph_in_pieces_is_refused(edges: Any, endpoints: str, message: str) -> None:
    graph = nx.Graph(edges) if endpoints else nx.cycle_graph(3)
    nx.set_edge_attributes(graph, "1 GB/s", "bandwidth")
    described = Graph.of(graph, endpoints=list(endpoints))
    with pytest.raises(ClusterSimError, match=message):
        build(described)


def test_sites_without_lines_between_them_are_refused() -> None:
    lines = [{"between": ["east", "west"], "link": "fibre"}]
    with pytest.raises(ClusterSimError, match="no lines lead from 'east' to 'north'"):
        build(fabric("wan", "fibre", sites=SITES, lines=lines))


def test_a_graph_too_large_to_search_is_refused() -> None:
    star = nx.star_graph(20_001)
    nx.set_edge_attributes(star, 1e9, "bandwidth_bytes_per_s")
    with pytest.raises(ClusterSimError, match=r"20,002 vertices; .* describe a larger network by its shape"):
        build(Graph.of(star))


def test_endpoints_modes_and_groups_that_there_are_not_are_refused() -> None:
    topology = BUILT["k4"]
    with pytest.raises(ClusterSimError, match=r"endpoint 16 is not in fat-tree, which has 16 \(0 to 15\)"):
        routes(topology, 0, 16)
    with pytest.raises(ClusterSimError, match="has no 'valiant' paths; allowed: ecmp, spread, single"):
        routes(topology, 0, 1, mode="valiant")
    with pytest.raises(ClusterSimError, match="2,048 accelerators do not fit: fat-tree has 16"):
        topology.group(2048)
    assert topology.group(4, 8).tolist() == [8, 9, 10, 11]


def test_rails_that_meet_nowhere_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"needs two tiers and routing.pxn"):
        fabric("rail-fat-tree", "host leaf", **RAILS, isolated=True)


# Routing modes and their statistics


def test_a_mode_lowers_the_capacity_of_the_network_but_not_inside_nodes() -> None:
    shapes = {"scale_up": {"size": 4}, **RAILS}
    plain = build(fabric("rail-fat-tree", "host leaf scale_up", **shapes))
    lossy = build(fabric("rail-fat-tree", "host leaf scale_up", **shapes, routing="lossless-ecmp"))
    ratio = lossy.capacity_bytes_per_s / plain.capacity_bytes_per_s
    for number, tier in enumerate(plain.tiers):
        share = 1.0 if tier == "scale_up" else MODES["lossless-ecmp"].efficiency
        assert ratio[plain.tier == number] == pytest.approx(share)
    own = build(fabric("rail-fat-tree", "host leaf", **RAILS, routing={"mode": "spray", "efficiency": 0.5}))
    assert own.capacity_bytes_per_s[0] == 0.5e9


@pytest.mark.parametrize(("balls", "bins"), [(2, 2), (8, 8), (5, 3), (32, 8)])
def test_the_busiest_path_is_as_busy_as_drawing_at_random_makes_it(balls: int, bins: int) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(balls, np.full(bins, 1 / bins), size=40_000).max(axis=1)
    spread = drawn.std() / np.sqrt(len(drawn))
    assert busiest_path(balls, bins) == pytest.approx(drawn.mean(), abs=5 * spread)


def test_two_flows_on_two_paths_collide_half_of_the_time() -> None:
    assert busiest_path(2, 2) == pytest.approx(1.5)
    assert busiest_path(1, 8) == 1.0
    assert slowdown(1, 4, groups=10) == 1.0
    assert slowdown(8, 8, queue_pairs=1024) == pytest.approx(1.045, abs=0.01)


def test_the_slow_down_by_collisions_is_that_of_our_simulations() -> None:
    """A ring over 16 leaves of 8 hosts: the slowest step over the ideal one (our own simulation)."""
    file = Path(__file__).parents[3] / "shared" / "data" / "network" / "network_ecmp_factor.csv"
    if not file.is_file():
        pytest.skip("the table of simulated collisions is not beside this checkout")
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    rings = [row for row in rows if row[4] == "ring"]
    errors = [
        slowdown(int(h), int(up), queue_pairs=int(qp), groups=int(leaves)) / float(measured) - 1
        for h, leaves, up, qp, _, _, measured, *_ in rings
    ]
    assert len(rings) >= 30
    assert np.mean(np.abs(errors)) < 0.06
