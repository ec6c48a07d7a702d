"""Admission policies: whether a routed request is let in."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from clustersim.policies.base import Admission, FleetView, RequestView, Verdict


class Always(Admission):
    """Let every request in."""

    def admit(self, request: RequestView, replicas: FleetView, replica: int) -> Verdict:
        return Verdict.ADMIT


class QueueLimit(Admission):
    """Reject a request whose replica has a full queue, or too many prompt tokens to compute."""

    max_waiting: PositiveInt = Field(256, description="Most requests that may wait at a replica.")
    max_pending_tokens: PositiveInt | None = Field(
        None, description="Most prompt tokens that may wait at a replica, this request's included."
    )

    def admit(self, request: RequestView, replicas: FleetView, replica: int) -> Verdict:
        tokens = int(replicas.pending_tokens[replica]) + request.prompt_tokens
        full = int(replicas.waiting[replica]) >= self.max_waiting
        heavy = self.max_pending_tokens is not None and tokens > self.max_pending_tokens
        return Verdict.REJECT if full or heavy else Verdict.ADMIT
