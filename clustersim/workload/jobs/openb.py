"""The cluster of Alibaba's openb trace: its nodes, all its requests, and which of these are typical."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from clustersim.policies.cluster.fgd import Typical
from clustersim.spec.jobs import JobCluster, NodeGroup
from clustersim.workload.jobs.columns import Jobs, make_jobs
from clustersim.workload.jobs.text import read_table

_MILLI, _MIB = 1e-3, 2.0**20


def openb_cluster(file: Path) -> JobCluster:
    """Return the nodes of openb's list of nodes, in its order."""
    table = read_table(file)
    rows = zip(
        table.numbers("gpu").tolist(),
        table.text("model").tolist(),
        (table.numbers("cpu_milli") * _MILLI).tolist(),
        (table.numbers("memory_mib") * _MIB).tolist(),
        strict=True,
    )
    groups = (
        NodeGroup(nodes=1, accelerators=int(gpus), kind=kind, cpus=cpus, memory=memory)
        for gpus, kind, cpus, memory in rows
    )
    return JobCluster(groups=tuple(groups))


def openb_requests(file: Path) -> Jobs:
    """Return all pods of openb's list, those never scheduled included, by name, all at once."""
    table = read_table(file)
    gpus, milli = table.numbers("num_gpu"), table.numbers("gpu_milli")
    is_part = (gpus == 1) & (milli > 0) & (milli < 1000)
    jobs = make_jobs(
        submit_s=np.zeros(len(table)),
        duration_s=np.ones(len(table)),
        accelerators=gpus.astype(np.int64),
        share=np.where(is_part, milli * _MILLI, 1.0),
        cpus=table.numbers("cpu_milli") * _MILLI,
        memory_bytes=table.numbers("memory_mib") * _MIB,
        kinds=[tuple(word.split("|")) if word else () for word in table.text("gpu_spec").tolist()],
        name=table.text("name"),
    )
    return jobs.take(np.argsort(jobs.name.astype(str), kind="stable"))


def typical_demands(jobs: Jobs, popularity: float = 0.95) -> tuple[Typical, ...]:
    """Return the most frequent demands of *jobs* that make up a share of *popularity* of them."""
    columns = (jobs.cpus, jobs.accelerators, jobs.share, jobs.kinds)
    counts = Counter(zip(*(column.tolist() for column in columns), strict=True))
    found, seen = list[Typical](), 0
    for (cpus, accelerators, share, kinds), count in counts.most_common():
        if seen >= popularity * len(jobs):
            break
        seen += count
        found.append(Typical(weight=count, accelerators=accelerators, share=share, cpus=cpus, kinds=kinds))
    return tuple(found)
