"""How fast networks are built, routed over and shared: CPU seconds, with floors far below what we measure."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import simpy

from clustersim.network.build import build
from clustersim.network.route import Traffic, link_load, routes
from clustersim.network.share import FlowSet
from clustersim.network.topology import Topology
from clustersim.sim.fabric import Fluid
from clustersim.spec.fabric import FatTree, LinkClass, load_fabric

pytestmark = pytest.mark.benchmark(timer=time.process_time)


def tree(hosts: int, leaves: int, pods: int) -> Topology:
    """Return a full-bisection fat tree of 50 GB/s links."""
    link = LinkClass(bandwidth=50e9)
    counts = {"hosts_per_leaf": hosts, "leaves_per_pod": leaves, "pods": pods}
    up = {"spines_per_pod": hosts, "cores_per_spine": leaves}
    return build(FatTree(name="tree", links=dict.fromkeys(("host", "leaf", "spine"), link), **counts, **up))


def ends(hosts: int, count: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(1)
    source = rng.integers(0, hosts, count)
    return source, (source + 1 + rng.integers(0, hosts - 1, count)) % hosts, rng


@pytest.mark.parametrize(("shape", "floor_s"), [((16, 16, 32), 0.3), ((16, 8, 8), 5.0)])
def test_ten_thousand_flows_started_together_run_to_completion(
    benchmark: Any, shape: tuple[int, int, int], floor_s: float
) -> None:
    """P7: 8,192 hosts in less than 0.3 s, 1,024 hosts in less than 5 s."""
    topology = tree(*shape)
    source, target, rng = ends(topology.endpoints, 10_000)
    paths, size = routes(topology, source, target, np.arange(10_000)), rng.random(10_000) * 1e7 + 1e6

    def run() -> dict[int, float]:
        flows = FlowSet(topology.capacity_bytes_per_s)
        flows.add_paths(paths, size)
        return flows.drain()

    finish_s = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert len(finish_s) == 10_000
    assert benchmark.stats["min"] < floor_s


def test_a_hundred_thousand_endpoints_are_built_in_seconds_and_little_memory() -> None:
    """P8: less than 5 s of CPU and 2 GB, the package's import included."""
    script = (
        "import resource\n"
        "from clustersim.network.build import build, summary\n"
        "from clustersim.spec.fabric import LinkClass, RailFatTree\n"
        "link = LinkClass(bandwidth=50e9)\n"
        "shape = dict(nodes=13312, rails=8, nodes_per_leaf=32, spines=32, leaves_per_pod=256)\n"
        "tiers = ('host', 'leaf', 'spine', 'scale_up')\n"
        "topology = build(RailFatTree(name='large', links=dict.fromkeys(tiers, link), cores_per_spine=256,\n"
        "    scale_up={'size': 8}, routing={'mode': 'ecmp', 'pxn': True}, **shape))\n"
        "assert summary(topology)['endpoints'] == 106496\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    cpu_s, peak_bytes = map(float, found.stdout.split())
    assert cpu_s < 5.0
    assert peak_bytes < 2e9


def test_a_million_routes_a_second(benchmark: Any) -> None:
    topology = build(load_fabric("llama3-24k"))
    source, target, _ = ends(topology.endpoints, 100_000)
    paths = benchmark(routes, topology, source, target, np.arange(100_000))
    assert paths.shape[0] == 100_000
    assert benchmark.stats["min"] < 0.1


def test_transfers_on_the_clock(benchmark: Any) -> None:
    """Poisson arrivals, exponential 10 MB, half of the hosts' capacity, 8,192 hosts: 2,000 flows."""
    topology = tree(16, 16, 32)
    source, target, rng = ends(topology.endpoints, 2000)
    size = rng.exponential(1e7, 2000)
    start_s = np.cumsum(rng.exponential(1e7 / (0.5 * topology.endpoints * 50e9), 2000))

    def run() -> float:
        env = simpy.Environment()
        network = Fluid(env, topology)

        def send() -> Any:
            for at, a, b, s in zip(*(x.tolist() for x in (start_s, source, target, size)), strict=True):
                yield env.timeout(max(0.0, at - env.now))
                network.transfer(a, b, s)

        env.process(send())
        env.run()
        return network.moved_bytes().sum()

    moved = benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    assert moved > 2 * size.sum()
    assert benchmark.stats["min"] < 1.0


def test_a_thousand_collectives_share_links(benchmark: Any) -> None:
    """A thousand rings of 64 ranks start at once: solved together, then one after the other ends."""
    topology = build(load_fabric("rail-h100-1024"))
    rng = np.random.default_rng(2)
    loads = []
    for _ in range(1000):
        ranks = rng.choice(1024, 64, replace=False)
        loads.append(link_load(topology, Traffic.of(ranks, np.roll(ranks, -1), 2 * 63 / 64)))

    def run() -> dict[int, float]:
        flows = FlowSet(topology.capacity_bytes_per_s)
        for number, load in enumerate(loads):
            flows.add(load.links, load.weights, 1e8 + 1e5 * number)
        return flows.drain()

    assert len(benchmark.pedantic(run, rounds=2, warmup_rounds=1)) == 1000
    assert benchmark.stats["min"] < 20.0
