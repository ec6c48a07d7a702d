"""Routers: which replica serves a request.

A ``RuleRouter`` names its candidates and the column in which the smallest wins; the engine runs
that compiled. A router of another kind overrides ``route``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clustersim.policies.base import Column, FleetView, RequestView, Router

Candidates = Literal["turn", "one", "two", "all"]


class RuleRouter(Router):
    """Of its candidates, takes the replica with the smallest value of a column, the first of equals."""

    candidates: ClassVar[Candidates] = "all"
    """Who may be chosen: the next in turn, one at random, two at random, or all."""
    column: ClassVar[Column] = "outstanding"
    """What is compared; all of it counts running requests as well as waiting ones where it should."""

    def route(self, request: RequestView, replicas: FleetView) -> int:
        n = replicas.count
        first, second = (int(x * n) for x in request.random)
        if self.candidates == "turn":
            return request.id % n
        if self.candidates == "one":
            return first
        load = getattr(replicas, self.column)
        if self.candidates == "two":
            return second if load[second] < load[first] else first
        return int(np.argmin(load))


class RoundRobin(RuleRouter):
    """Take the replicas in turn."""

    candidates: ClassVar[Candidates] = "turn"


class Random(RuleRouter):
    """Take any replica."""

    candidates: ClassVar[Candidates] = "one"


class PowerOfTwo(RuleRouter):
    """Of two random replicas, take the one with fewer outstanding requests (Mitzenmacher 2001)."""

    candidates: ClassVar[Candidates] = "two"


class LeastOutstanding(RuleRouter):
    """Take the replica with the fewest unfinished requests, running ones included."""


class LeastPendingTokens(RuleRouter):
    """Take the replica with the fewest prompt tokens still to compute."""

    column: ClassVar[Column] = "pending_tokens"


class KvAware(RuleRouter):
    """Take the replica with the fewest blocks of key-value cache in use."""

    column: ClassVar[Column] = "kv_blocks"
