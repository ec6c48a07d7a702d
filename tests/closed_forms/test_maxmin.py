"""Fair shares: textbook cases by hand, and random networks against a solver that starts from scratch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from clustersim.errors import ClusterSimError
from clustersim.network.build import build
from clustersim.network.route import Traffic, link_load, routes
from clustersim.network.share import FlowSet, Terms
from clustersim.network.state import NEVER
from clustersim.spec.fabric import load_fabric


@dataclass
class Job:
    """An activity as the reference sees it."""

    links: Any
    loads: Any
    terms: Terms


def from_scratch(capacity: Any, jobs: list[Job]) -> Any:
    """Return the rates of progressive filling, class by class, on dense matrices."""
    count, links = len(jobs), len(capacity)
    load = np.zeros((links + count, count))
    for j, job in enumerate(jobs):
        load[job.links, j], load[links + j, j] = job.loads, 1.0
    room_for = np.append(capacity, [min(job.terms.cap_bytes_per_s, 1e6) for job in jobs])
    weight = np.array([job.terms.weight for job in jobs])
    group = np.array([job.terms.priority for job in jobs])
    rate, room = np.zeros(count), room_for.copy()
    for each in np.unique(group):
        rising = group == each
        while rising.any():
            need = load[:, rising] @ weight[rising]
            free = np.where(room > 1e-12 * room_for, room, 0.0)
            level = np.divide(free, need, out=np.full(len(need), np.inf), where=need > 0)
            full = level <= level.min() * (1 + 1e-13)
            hit = rising & (load[full] > 0).any(axis=0)
            rate[hit] = level.min() * weight[hit]
            rising &= ~hit
            room = (
                room_for
                - load[:, (group < each) | ((group == each) & ~rising)]
                @ (rate[(group < each) | ((group == each) & ~rising)])
            )
    return rate


def rates(capacity: list[float], *jobs: tuple[Any, ...]) -> list[float]:
    """Return the rates of activities given as (links, loads, terms), the last two optional."""
    flows = FlowSet(np.array(capacity))
    numbers = []
    for links, *rest in jobs:
        loads = rest[0] if rest else [1.0] * len(links)
        numbers.append(flows.add(links, loads, 1.0, rest[1] if len(rest) > 1 else Terms()))
    flows.update(0.0)
    return [flows.rate_bytes_per_s(number) for number in numbers]


def test_two_flows_halve_a_link() -> None:
    assert rates([10.0], ([0],), ([0],)) == [5.0, 5.0]


def test_a_parking_lot_gives_the_long_flow_as_much_as_the_short_ones() -> None:
    assert rates([1.0] * 4, ([0, 1, 2, 3],), *[([k],) for k in range(4)]) == [0.5] * 5


def test_what_the_slow_leave_the_fast_take() -> None:
    """Bertsekas and Gallager's example in small: links of 1 and 2, one flow on both."""
    assert rates([1.0, 2.0], ([0],), ([0, 1],), ([1],)) == [0.5, 0.5, 1.5]


def test_weights_divide_a_link() -> None:
    given = [([0], [1.0], Terms(weight=w)) for w in (1.0, 2.0, 3.0)]
    assert rates([6.0], *given) == pytest.approx([1.0, 2.0, 3.0])


def test_a_cap_leaves_the_rest_to_others() -> None:
    capped = ([0], [1.0], Terms(cap_bytes_per_s=0.2))
    assert rates([1.0], capped, ([0],), ([0],)) == pytest.approx([0.2, 0.4, 0.4])


def test_a_collective_counts_with_the_bytes_that_it_puts_on_a_link() -> None:
    """Both progress alike: 1.5 x + x = 10."""
    assert rates([10.0], ([0], [1.5]), ([0],)) == pytest.approx([4.0, 4.0])


def test_a_lower_class_gets_what_the_higher_leaves() -> None:
    first, second = Terms(priority=0), Terms(priority=1)
    assert rates([4.0], ([0], [1.0], second), ([0], [1.0], first)) == [0.0, 4.0]
    capped = Terms(cap_bytes_per_s=1.0)
    shared = rates([4.0], ([0], [1.0], capped), ([0], [1.0], second), ([0], [1.0], second))
    assert shared == pytest.approx([1.0, 1.5, 1.5])


def test_who_is_left_speeds_up() -> None:
    """Sizes 1 and 2 on a link of 1: the first ends at 2, the second at 3."""
    flows = FlowSet(np.array([1.0]))
    small, large = flows.add([0], [1.0], 1.0), flows.add([0], [1.0], 2.0)
    assert flows.drain() == pytest.approx({small: 2.0, large: 3.0})


def test_an_incast_ends_in_the_steps_of_processor_sharing() -> None:
    """With n flows left each gets 1/n; the k-th smallest ends when all smaller and its like are through."""
    sizes = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    flows = FlowSet(np.append(np.full(5, 10.0), 2.0))
    numbers = flows.add_paths(np.column_stack([np.arange(5), np.full(5, 5)]), sizes)
    finish_s = flows.drain()
    steps = np.diff(sizes, prepend=0.0) * np.arange(5, 0, -1) / 2.0
    assert [finish_s[n] for n in numbers.tolist()] == pytest.approx(np.cumsum(steps).tolist())


def test_late_comers_share_from_when_they_come() -> None:
    flows = FlowSet(np.array([1.0]))
    first = flows.add([0], [1.0], 3.0)
    assert flows.update(0.0) == []
    assert flows.next_s == 3.0
    second = flows.add([0], [1.0], 1.0)
    assert flows.update(1.0) == []
    assert flows.left_bytes(first, 2.0) == pytest.approx(1.5)
    assert flows.update(flows.next_s) == [second]
    assert flows.now_s == 3.0
    assert flows.update(flows.next_s) == [first]
    assert flows.now_s == 4.0
    assert flows.next_s == NEVER
    assert len(flows) == 0


def test_a_failed_link_stops_its_flows_and_a_repaired_one_lets_them_go_on() -> None:
    flows = FlowSet(np.array([1.0, 1.0]))
    hit, other = flows.add([0, 1], [1.0, 1.0], 2.0), flows.add([1], [1.0], 9.0)
    flows.update(0.0)
    flows.set_capacity(0, 0.0)
    flows.update(1.0)
    assert (flows.rate_bytes_per_s(hit), flows.rate_bytes_per_s(other)) == (0.0, 1.0)
    flows.set_capacity(0, 0.25)
    flows.update(2.0)
    assert flows.rate_bytes_per_s(hit) == 0.25
    assert flows.next_s == pytest.approx(2.0 + 1.5 / 0.25)


def test_who_is_removed_leaves_the_link_to_others() -> None:
    flows = FlowSet(np.array([1.0]))
    first, second = flows.add([0], [1.0], 5.0), flows.add([0], [1.0], 5.0)
    flows.update(0.0)
    flows.remove(first)
    never = flows.add([0], [1.0], 5.0)
    flows.remove(never)
    assert flows.update(1.0) == []
    assert flows.rate_bytes_per_s(second) == 1.0
    assert flows.next_s == pytest.approx(5.5)
    with pytest.raises(ClusterSimError, match=f"activity {first} is not under way"):
        flows.left_bytes(first, 1.0)


def test_a_ring_all_reduce_is_one_activity_with_the_time_of_the_closed_form() -> None:
    """2 (n - 1) / n of the message crosses every link of the ring."""
    topology = build(load_fabric("dgx-h100-node"))
    ranks = topology.group(8)
    load = link_load(topology, Traffic.of(ranks, np.roll(ranks, -1), 2 * 7 / 8))
    flows = FlowSet(topology.capacity_bytes_per_s)
    number = flows.add(load.links, load.weights, 1e9)
    assert flows.drain()[number] == pytest.approx(2 * 7 / 8 * 1e9 / (450e9 * 0.82))


# Random networks


@pytest.mark.parametrize("seed", range(24))
def test_rates_after_every_event_are_those_of_a_solver_from_scratch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    links = int(rng.integers(2, 30))
    capacity = rng.choice([1.0, 2.0, 5.0, 10.0], links) if seed % 2 else rng.random(links) + 0.1
    flows, jobs, now_s = FlowSet(capacity, metered=seed % 3 == 0), {}, 0.0
    for _ in range(60):
        early = float(rng.random() if rng.random() < 0.4 else 1.0)
        now_s = now_s + (flows.next_s - now_s) * early if flows.next_s < NEVER else now_s + 0.1
        if jobs and rng.random() < 0.2:
            gone = int(rng.choice(list(jobs)))
            flows.remove(gone)
            del jobs[gone]
        if seed % 6 == 5 and rng.random() < 0.3:
            changed = int(rng.integers(links))
            capacity[changed] = rng.random() * 3 if rng.random() < 0.9 else 0.0
            flows.set_capacity(changed, capacity[changed])
        joined = [_drawn(rng, links, seed) for _ in range(rng.integers(0, 5))]
        numbers = [flows.add(j.links, j.loads, rng.random() * 3 + 1e-3, j.terms) for j in joined]
        for ended in flows.update(now_s):
            del jobs[ended]
        jobs.update(zip(numbers, joined, strict=True))
        wanted = from_scratch(capacity, list(jobs.values()))
        found = [flows.rate_bytes_per_s(number) for number in jobs]
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-300)


def _drawn(rng: Any, links: int, seed: int) -> Job:
    """Draw an activity; odd features in some of the seeds."""
    count = int(rng.integers(1, min(6, links) + 1))
    loads = rng.random(count) * 2 + 1e-3 if seed % 5 > 1 else np.ones(count)
    weight = float(10 ** rng.uniform(-1, 1)) if seed % 5 > 1 else 1.0
    cap = float(rng.random() * 2 + 0.01) if seed % 7 > 2 and rng.random() < 0.5 else np.inf
    return Job(
        rng.choice(links, count, replace=False), loads, Terms(weight, cap, rng.integers(3) * (seed % 4 == 3))
    )


def test_on_a_fat_tree_every_event_leaves_the_rates_of_a_solver_from_scratch() -> None:
    topology = build(load_fabric("fat-tree-k16"))
    rng = np.random.default_rng(5)
    source = rng.integers(0, 1024, 600)
    target = (source + 1 + rng.integers(0, 1023, 600)) % 1024
    paths = routes(topology, source, target, np.arange(600))
    flows = FlowSet(topology.capacity_bytes_per_s)
    numbers = flows.add_paths(paths, rng.random(600) * 1e7 + 1e6).tolist()
    jobs = {n: Job(p[p >= 0], 1.0, Terms()) for n, p in zip(numbers, paths, strict=True)}
    flows.update(0.0)
    for event in range(120):
        for ended in flows.update(flows.next_s):
            del jobs[ended]
        if event % 30 == 0:
            used = np.unique(np.concatenate([job.links for job in jobs.values()]))
            place = {link: k for k, link in enumerate(used.tolist())}
            dense = [Job([place[e] for e in j.links.tolist()], 1.0, Terms()) for j in jobs.values()]
            wanted = from_scratch(topology.capacity_bytes_per_s[used] / 1e9, dense) * 1e9
            assert [flows.rate_bytes_per_s(n) for n in jobs] == pytest.approx(wanted, rel=1e-12)
    passes, solved = flows.solved
    assert passes == 121
    assert solved - 600 < 120 * 60


def test_wide_weights_keep_their_ratios() -> None:
    weights = 10.0 ** np.linspace(-6, 6, 49)
    found = rates([1.0, *[1.0] * 49], *[([0, k + 1], [1.0, 1.0], Terms(w)) for k, w in enumerate(weights)])
    assert np.array(found) / weights == pytest.approx(np.full(49, 1.0 / weights.sum()), rel=1e-13)


def test_a_tolerance_changes_rates_by_no_more_than_it_allows() -> None:
    rng = np.random.default_rng(3)
    paths = np.array([rng.choice(40, 4, replace=False) for _ in range(300)])
    sizes = rng.random(300) + 0.1
    finish_s = []
    for tolerance in (0.0, 0.01):
        flows = FlowSet(np.ones(40), tolerance=tolerance)
        numbers = flows.add_paths(paths, sizes)
        done = flows.drain()
        finish_s.append(np.array([done[n] for n in numbers.tolist()]))
    assert np.abs(finish_s[1] / finish_s[0] - 1).max() < 0.03


def test_the_same_source_runs_without_the_compiler() -> None:
    script = (
        "import numpy as np\n"
        "from clustersim.network.share import FlowSet\n"
        "rng = np.random.default_rng(0)\n"
        "flows = FlowSet(rng.random(20) + 0.1)\n"
        "paths = np.array([rng.choice(20, 3, replace=False) for _ in range(60)])\n"
        "flows.add_paths(paths, rng.random(60))\n"
        "print([x.hex() for x in flows.drain().values()])\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "NUMBA_DISABLE_JIT": jit},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for jit in ("0", "1")
    ]
    assert found[0] == found[1]
    assert found[0].count("0x") == 60


@pytest.mark.parametrize(
    ("links", "loads", "size", "terms", "message"),
    [
        ([0, 7], [1.0, 1.0], 1.0, Terms(), "names a link that is not among 0 to 1"),
        ([0, 0], [1.0, 1.0], 1.0, Terms(), "names a link twice"),
        ([0], [0.0], 1.0, Terms(), "one positive number of bytes per byte"),
        ([0], [1.0], 0.0, Terms(), "size, weight and cap must be positive"),
        ([0], [1.0], 1.0, Terms(weight=0.0), "size, weight and cap must be positive"),
        ([0], [1.0], 1.0, Terms(priority=16), "priority 16 is not allowed: 0 to 15"),
        ([], [], 1.0, Terms(), "without links or a cap would take no time"),
    ],
)
def test_what_cannot_be_carried_is_refused(
    links: list[int], loads: list[float], size: float, terms: Terms, message: str
) -> None:
    with pytest.raises(ClusterSimError, match=message):
        FlowSet(np.ones(2)).add(links, loads, size, terms)


def test_capacities_below_zero_are_refused() -> None:
    with pytest.raises(ClusterSimError, match="must be numbers that are not negative"):
        FlowSet(np.array([1.0, -1.0]))
    with pytest.raises(ClusterSimError, match="link 3 cannot carry 1 bytes per second"):
        FlowSet(np.ones(2)).set_capacity(3, 1.0)
    with pytest.raises(ClusterSimError, match="needs a path over links that there are"):
        FlowSet(np.ones(2)).add_paths(np.array([[-1, -1]]), 1.0)
