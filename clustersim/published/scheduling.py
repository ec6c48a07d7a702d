"""Job scheduling: what published simulators of GPU clusters answer on public traces.

These are other simulators' answers, not measurements: agreeing to the digit shows that we schedule by
the same rules. The numbers were printed by the named programs on the traces that are read here.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from clustersim.policies.cluster.gavel import Gavel
from clustersim.policies.cluster.ordering import Fifo, Ordered, Sjf
from clustersim.policies.cluster.placement import AnyFree, Consolidate
from clustersim.policies.cluster.preempting import Srtf
from clustersim.published.tables import Claim, Result, data_file, rate
from clustersim.sim.cluster import ClusterOutcome, KnownSpeeds, simulate_cluster
from clustersim.spec.jobs import JobCluster, NodeGroup, RestartCost, Scheduling
from clustersim.workload.jobs import Jobs, gavel_throughputs, read_jobs

VENUS: Final = "traces/helios-venus-2vc-sept/helios_venus_2vc_sept.csv.gz"
PHILLY: Final = "traces/philly-pollux/philly.csv.gz"
GAVEL: Final = "traces/gavel"
ANSWERS: Final = "scheduling/gavel_bundled_jct"

J1: Final = Claim(
    "J1",
    "Mean wait of each virtual cluster of a Helios Venus slice: FIFO, SJF, SRTF; consolidated, anywhere",
    1e-6,
    "HeliosArtifact's simulator (MIT) @ bdaae10; FIFO and SJF anywhere also by Tiresias' and AccaSim",
    "fleetsim with its rounds of 60 s: 111 % (FIFO), 755 % (SJF)",
)
J2: Final = Claim(
    "J2",
    "Mean wait of 82,247 Philly jobs on one pool of 640 accelerators: FIFO, SJF",
    1e-6,
    "AccaSim 1.0, by count",
    "AccaSim itself, in 192 s",
)
J3: Final = Claim(
    "J3",
    "Mean wait of a Helios Venus virtual cluster when decisions fall on rounds of 10 to 300 s: FIFO, SJF",
    1e-6,
    "fleetsim 0.8 (Apache-2.0) @ ce41673",
)
J4: Final = Claim(
    "J4",
    "Mean completion time of Gavel's bundled traces under its policies, in rounds of 360 s",
    0.01,
    "Gavel's simulator (MIT) @ c4fa400, 8 V100, 16 P100 and 24 K80",
)

VENUS_WAITS_S: Final[Mapping[tuple[str, str], tuple[float, float]]] = {
    ("fifo", "consolidate"): (13891.12, 360.43),
    ("sjf", "consolidate"): (696.79, 360.43),
    ("srtf", "consolidate"): (433.70, 354.22),
    ("fifo", "any-free"): (13883.59, 360.43),
    ("sjf", "any-free"): (673.33, 360.43),
}
"""Published: mean waits of the virtual clusters vcvGl and vcvlY, printed to a hundredth."""
PHILLY_WAITS_S: Final[Mapping[str, float]] = {"fifo": 33166.73, "sjf": 4461.49}
ROUND_WAITS_S: Final[Mapping[tuple[str, float], float]] = {
    ("fifo", 10.0): 14887.4,
    ("fifo", 30.0): 20509.3,
    ("fifo", 60.0): 29339.31,
    ("fifo", 300.0): 103375.1,
    ("sjf", 10.0): 1706.5,
    ("sjf", 30.0): 2795.9,
    ("sjf", 60.0): 5957.86,
    ("sjf", 300.0): 61415.6,
}
"""Published: mean waits of vcvGl by the length of a round."""
POLICIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "fifo_perf": {"objective": "fifo"},
    "max_min_fairness": {"heterogeneous": False},
    "max_min_fairness_perf": {},
    "max_min_fairness_water_filling": {"objective": "water-filling", "heterogeneous": False},
    "max_min_fairness_water_filling_perf": {"objective": "water-filling"},
    "max_sum_throughput_perf": {"objective": "max-sum-throughput"},
    "min_total_duration": {"objective": "min-total-duration", "heterogeneous": False},
    "min_total_duration_perf": {"objective": "min-total-duration"},
    "finish_time_fairness": {"objective": "finish-time-fairness", "heterogeneous": False},
    "finish_time_fairness_perf": {"objective": "finish-time-fairness"},
}
"""Gavel's names of its policies, and ours. Its plain fifo draws kinds at random and is left out."""
_SCHEDULERS: Final[Mapping[str, Ordered]] = {"fifo": Fifo(kind="fifo"), "sjf": Sjf(kind="sjf")}
_PLACEMENTS: Final = {"consolidate": Consolidate(kind="consolidate"), "any-free": AnyFree(kind="any-free")}
_RESTARTS: Final = (
    RestartCost(accelerators=1, cost=7.0),
    RestartCost(accelerators=8, cost=30.0),
    RestartCost(cost=60.0),
)
_QUEUES: Final = ("vcvGl", "vcvlY")


def helios(data: Path) -> list[Result]:
    """Compare mean waits on the Helios Venus slice."""
    start_s = time.process_time()
    jobs = read_jobs(data_file(data, VENUS))
    predicted, published = list[float](), list[float]()
    for (scheduler, placement), waits_s in VENUS_WAITS_S.items():
        outcome = venus(jobs, _helios_scheduling(scheduler, placement), extra_s=float(scheduler == "srtf"))
        predicted += [round(wait_s, 2) for wait_s in waits_by_queue(outcome).values()]
        published += waits_s
    return [_rated(J1, predicted, published, start_s)]


def _helios_scheduling(scheduler: str, placement: str) -> Scheduling:
    if scheduler != "srtf":
        chosen: Any = _SCHEDULERS[scheduler]
        return Scheduling(scheduler=chosen, placement=_PLACEMENTS[placement], estimates="oracle")
    return Scheduling(
        scheduler=Srtf(kind="srtf", ties_to="waiting"),
        placement=_PLACEMENTS[placement],
        estimates="oracle",
        restart=_RESTARTS,
    )


def venus(jobs: Jobs, scheduling: Scheduling, extra_s: float = 0.0) -> ClusterOutcome:
    """Run the Venus slice on its two pools; *extra_s* is added to each job, as Helios' SRTF does."""
    cluster = JobCluster(
        groups=(
            NodeGroup(nodes=20, accelerators=8, queue=_QUEUES[0]),
            NodeGroup(nodes=2, accelerators=8, queue=_QUEUES[1]),
        )
    )
    return simulate_cluster(cluster, jobs.longer(extra_s), scheduling)


def waits_by_queue(outcome: ClusterOutcome) -> dict[str, float]:
    """Return the mean wait of each virtual cluster, in order of their names."""
    jobs = outcome.tables["jobs"]
    names = sorted(set(jobs["queue"].tolist()))
    return {name: float(jobs["wait_s"][jobs["queue"] == name].mean()) for name in names}


def philly(data: Path) -> list[Result]:
    """Compare mean waits on the whole Philly trace."""
    start_s = time.process_time()
    jobs = read_jobs(data_file(data, PHILLY)).in_one_queue()
    cluster = JobCluster(groups=(NodeGroup(nodes=80, accelerators=8),))
    predicted = []
    for scheduler in PHILLY_WAITS_S:
        scheduling = Scheduling(
            scheduler=_SCHEDULERS[scheduler], placement=_PLACEMENTS["any-free"], estimates="oracle"
        )
        outcome = simulate_cluster(cluster, jobs, scheduling)
        predicted.append(round(float(outcome.facts["wait_mean_s"]), 2))
    return [_rated(J2, predicted, list(PHILLY_WAITS_S.values()), start_s)]


def rounds(data: Path) -> list[Result]:
    """Compare mean waits on the Helios Venus slice when decisions fall on rounds."""
    start_s = time.process_time()
    jobs = read_jobs(data_file(data, VENUS))
    predicted = []
    for scheduler, round_s in ROUND_WAITS_S:
        scheduling = _helios_scheduling(scheduler, "consolidate").model_copy(update={"round": round_s})
        wait_s = waits_by_queue(venus(jobs, scheduling))[_QUEUES[0]]
        predicted.append(round(wait_s, 2 if round_s == 60.0 else 1))
    return [_rated(J3, predicted, list(ROUND_WAITS_S.values()), start_s)]


def gavel(data: Path) -> list[Result]:
    """Compare mean completion times on the traces for which Gavel's own answers are at hand."""
    start_s = time.process_time()
    file = data_file(data, f"{GAVEL}/simulation_throughputs.json.gz")
    predicted, published = list[float](), list[float]()
    for answers in sorted((data / ANSWERS).glob("*__*.jct.txt.gz")):
        trace, _, policy = answers.name.removesuffix(".jct.txt.gz").partition("__")
        times_s = _printed_s(answers)
        if policy in POLICIES and len(times_s) and (data / GAVEL / f"{trace}.trace").is_file():
            jobs = read_jobs(data / GAVEL / f"{trace}.trace", "gavel")
            predicted.append(float(run_gavel(jobs, file, policy).facts["jct_mean_s"]))
            published.append(float(np.mean(times_s)))
    data_file(data, f"{GAVEL}/max_min_fairness.trace")
    return [_rated(J4, predicted, published, start_s)]


def run_gavel(jobs: Jobs, throughputs: Path, policy: str) -> ClusterOutcome:
    """Run *jobs* under the *policy* that Gavel calls so, on the cluster of its bundled examples."""
    profiles: dict[str, dict[tuple[str, int], float]] = {}
    for kind, speeds in gavel_throughputs(throughputs).items():
        for (job_type, size), per_s in speeds.items():
            profiles.setdefault(job_type, {})[kind, size] = per_s
    counts = (("v100", 8), ("p100", 16), ("k80", 24))
    cluster = JobCluster(groups=tuple(NodeGroup(nodes=n, accelerators=1, kind=k) for k, n in counts))
    scheduler = Gavel(kind="gavel", **POLICIES[policy])
    scheduling = Scheduling(scheduler=scheduler, placement=_PLACEMENTS["any-free"], estimates="oracle")
    return simulate_cluster(cluster, jobs, scheduling, KnownSpeeds(profiles, "v100"))


def _printed_s(file: Path) -> list[float]:
    text = gzip.decompress(file.read_bytes()).decode()
    return [float(found) for found in re.findall(r"^Job \d+[^:]*: ([\d.]+)", text, re.MULTILINE)]


def _rated(claim: Claim, predicted: list[float], published: list[float], start_s: float) -> Result:
    seconds = time.process_time() - start_s
    return rate(claim, "in-sample", np.array(predicted), np.array(published), seconds)
