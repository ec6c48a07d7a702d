"""The contracts: what a policy is shown, and what it may decide. No clock, no cost, no I/O.

A policy class is its own configuration: its pydantic fields are what a spec may set.
Views are read-only; what a policy may not know (output lengths) is not in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict


class Policy(BaseModel, ABC):
    """A policy is its own configuration: its fields are what a spec may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sort: ClassVar[str]
    """What it decides; the entry-point group is ``clustersim.<sort>``."""
    source: ClassVar[Path | None] = None
    """The file it was read from, if a spec named one; its content is part of a run's identity."""
    kind: str = ""
    """The name a spec calls it by; empty for one made in Python."""


class RequestView(Protocol):
    """A request as a policy sees it. Its true output length is hidden: no scheduler knows it."""

    @property
    def id(self) -> int:
        """Number of the request, in order of arrival."""

    @property
    def arrival_s(self) -> float:
        """When it arrived."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""

    @property
    def prefill_left(self) -> int:
        """Tokens that must still be prefilled before it decodes (recomputed ones included)."""

    @property
    def generated_tokens(self) -> int:
        """Output tokens it has so far."""

    @property
    def context_tokens(self) -> int:
        """Tokens whose keys and values are kept, in the cache or, swapped out, in host memory."""

    @property
    def last_token_s(self) -> float:
        """When it got its last token; its arrival if it has none."""

    @property
    def limit_tokens(self) -> int:
        """The most output tokens its client allows."""

    @property
    def tenant(self) -> str:
        """Who sent it; empty if the workload names no tenants."""

    @property
    def random(self) -> tuple[float, float]:
        """Two numbers in [0, 1), drawn once for this request, for policies that toss coins."""


class ReplicaView(Protocol):
    """What a serving replica shows its batching policy."""

    @property
    def index(self) -> int:
        """Number of the replica."""

    @property
    def now_s(self) -> float:
        """The time."""

    @property
    def waiting(self) -> Sequence[RequestView]:
        """Requests not yet started (or preempted), first come first."""

    @property
    def prefilling(self) -> Sequence[RequestView]:
        """Requests whose prompt is partly computed, in order of admission."""

    @property
    def running(self) -> Sequence[RequestView]:
        """Requests that decode, in order of admission."""

    @property
    def paused(self) -> Sequence[RequestView]:
        """Requests that could decode and keep their cache, but were not in the last step."""

    @property
    def free_kv_blocks(self) -> int:
        """Blocks of key-value cache that nobody holds."""

    @property
    def total_kv_blocks(self) -> int:
        """All blocks of key-value cache."""

    @property
    def block_tokens(self) -> int:
        """Tokens in a block."""

    @property
    def watermark_blocks(self) -> int:
        """Blocks that admission keeps free for the growth of what runs."""

    @property
    def decode_blocks(self) -> int:
        """Blocks that one more token for every running sequence takes."""

    @property
    def free_kv_tokens(self) -> int:
        """Tokens that fit in the free blocks, less the watermark and what the next decode takes."""


class All(Enum):
    """The type of ``ALL``."""

    ALL = "all"


ALL: Final = All.ALL
"""Every sequence that runs: the cheap and usual answer to 'whom to decode'."""


@dataclass(slots=True)
class Step:
    """One forward pass: prompt tokens to prefill, sequences to decode, sequences to preempt first.

    The engine gives blocks to all who need them. If none is left, it preempts the newest running
    sequence itself, so a policy need not think of it.
    """

    prefill: dict[RequestView, int] = field(default_factory=dict)
    """Tokens by request; 0 brings back one that waits swapped out (its ``prefill_left`` is 0)."""
    decode: All | Sequence[RequestView] = ()
    preempt: Sequence[RequestView] = ()
    passes: int = 0
    """Ask again after at most so many passes; 0 = when something changes that the policy can see."""

    def __bool__(self) -> bool:
        return bool(self.prefill) or self.decode is ALL or bool(self.decode)


class BatchingPolicy(Policy):
    """Decides, each time a replica is free, what its next forward pass computes."""

    sort: ClassVar[str] = "batching"
    every_iteration: ClassVar[bool] = False
    """True: ask at every iteration. False: a pure decode step holds until an arrival, a completion
    or a lack of memory changes what the policy can see, so the engine may jump."""
    reserves_limit: ClassVar[bool] = False
    """True: cache for the longest allowed output is reserved at admission (no paging)."""
    holds_batch: ClassVar[bool] = False
    """True: a finished sequence keeps its place until the whole batch has finished."""

    @abstractmethod
    def next_step(self, view: ReplicaView) -> Step:
        """Return the next step; an empty one makes the replica wait for a request."""


class FleetView(Protocol):
    """What a router sees of the replicas: columns, one entry a replica, as of their last finished pass."""

    @property
    def count(self) -> int:
        """Number of replicas."""

    @property
    def outstanding(self) -> np.ndarray:
        """Requests sent to each replica and not finished, the running ones included."""

    @property
    def waiting(self) -> np.ndarray:
        """Requests that wait at each replica."""

    @property
    def pending_tokens(self) -> np.ndarray:
        """Prompt tokens that each replica must still compute."""

    @property
    def kv_blocks(self) -> np.ndarray:
        """Blocks of key-value cache in use at each replica."""


Column = Literal["outstanding", "waiting", "pending_tokens", "kv_blocks"]


class Router(Policy):
    """Decides which replica serves a request, at the moment it arrives."""

    sort: ClassVar[str] = "router"

    @abstractmethod
    def route(self, request: RequestView, replicas: FleetView) -> int:
        """Return the number of a replica."""


class Verdict(Enum):
    """What an admission policy may answer."""

    ADMIT = "admit"
    REJECT = "reject"


class Admission(Policy):
    """Decides whether a request that was routed to a replica is let in."""

    sort: ClassVar[str] = "admission"

    @abstractmethod
    def admit(self, request: RequestView, replicas: FleetView, replica: int) -> Verdict:
        """Return whether *request* may join *replica*."""


class ArrivalShape(Policy):
    """The rate at which requests arrive, as a function of time."""

    sort: ClassVar[str] = "arrival"

    @abstractmethod
    def rate(self, t_s: np.ndarray) -> np.ndarray:
        """Return the requests per second at each of the times *t_s* (shape as given)."""


def blocks_for(tokens: int, block_tokens: int) -> int:
    """Return the blocks that *tokens* need."""
    return -(-tokens // block_tokens)
