"""Does a policy keep its contract? A public battery: small simulations, and the rules of every decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clustersim.check.arrival import check_arrival
from clustersim.check.batching import check_batching
from clustersim.check.doors import check_admission, check_router
from clustersim.check.rules import RULES, SCENES, Finding, Findings, report
from clustersim.check.scenes import scenes as _scenes
from clustersim.errors import ClusterSimError
from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Policy, Router

__all__ = ["RULES", "SCENES", "Finding", "check", "report"]


def check(policy: Policy, scenes: int = SCENES, seed: int = 0) -> list[Finding]:
    """Return the rules that *policy* breaks in random scenes, each with the first scene that shows it.

    >>> from clustersim.policies.batching import PrefillFirst
    >>> check(PrefillFirst(max_batch=4), scenes=3)
    []
    """
    battery = _battery(policy)
    findings = Findings()
    for scene in _scenes(scenes, seed):
        battery(policy, scene, findings)
        if "ends" in findings:
            break
    return findings.sorted()


def _battery(policy: Policy) -> Callable[[Any, Any, Findings], None]:
    """Return the checks for the sort of *policy*."""
    batteries: tuple[tuple[type[Policy], Callable[[Any, Any, Findings], None]], ...] = (
        (BatchingPolicy, check_batching),
        (Router, check_router),
        (Admission, check_admission),
        (ArrivalShape, check_arrival),
    )
    for base, battery in batteries:
        if isinstance(policy, base):
            return battery
    allowed = ", ".join(base.sort for base, _ in batteries)
    raise ClusterSimError(
        f"{type(policy).__name__} is no policy that can be checked; allowed sorts: {allowed}"
    )
