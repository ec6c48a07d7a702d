"""Everything that decides: batching, routing, admission, arrivals. Plain objects in, decisions out."""

from clustersim.policies.base import (
    ALL,
    Admission,
    ArrivalShape,
    BatchingPolicy,
    FleetView,
    Policy,
    ReplicaView,
    RequestView,
    Router,
    Step,
    Verdict,
    blocks_for,
)
from clustersim.policies.batching import RuleBatching, Rules
from clustersim.policies.routing import RuleRouter

__all__ = [
    "ALL",
    "Admission",
    "ArrivalShape",
    "BatchingPolicy",
    "FleetView",
    "Policy",
    "ReplicaView",
    "RequestView",
    "Router",
    "RuleBatching",
    "RuleRouter",
    "Rules",
    "Step",
    "Verdict",
    "blocks_for",
]
