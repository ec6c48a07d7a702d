"""What decides in a cluster of jobs: schedulers and placements, and their contracts."""

from clustersim.policies.cluster.contracts import (
    Demand,
    Intent,
    JobScheduler,
    JobView,
    Move,
    Nodes,
    NodesView,
    Placement,
    PoolView,
    Preempt,
    QueueView,
    Resize,
    Start,
    Wake,
)
from clustersim.policies.cluster.ordering import Ordered
from clustersim.policies.cluster.placement import Packed

__all__ = [
    "Demand",
    "Intent",
    "JobScheduler",
    "JobView",
    "Move",
    "Nodes",
    "NodesView",
    "Ordered",
    "Packed",
    "Placement",
    "PoolView",
    "Preempt",
    "QueueView",
    "Resize",
    "Start",
    "Wake",
]
