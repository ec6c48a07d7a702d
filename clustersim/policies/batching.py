"""Batching policies for serving replicas that differ only in a few rules.

A ``RuleBatching`` says its rules instead of deciding each step itself. The engine runs rules
compiled; ``next_step`` reads the same rules step by step, which documents and tests them, and is
what a policy gets that wraps one of these.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, PositiveInt

from clustersim.policies.base import (
    ALL,
    BatchingPolicy,
    ReplicaView,
    RequestView,
    Step,
    blocks_for,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the built-in batching policies differ in."""

    max_batch: int
    """Most sequences in the batch, prefilling and decoding."""
    token_budget: int
    """Most tokens of a pass; a whole prompt that is longer goes alone."""
    mixed: bool
    """Prefills and decodes share a pass; otherwise prefills go first and decodes wait."""
    chunked: bool
    """Prompts may be cut to fill the budget."""
    refill_below: int
    """New requests are admitted only while at most this many sequences are in the batch."""


class RuleBatching(BatchingPolicy):
    """A batching policy made of rules; subclasses may override ``key`` to change who goes first."""

    @abstractmethod
    def rules(self) -> Rules:
        """Return the rules, from the fields of the policy."""

    def key(self, request: RequestView) -> float:
        """Return the request's place in the queue, smallest first; asked once, on arrival."""
        return float(request.id)

    def next_step(self, view: ReplicaView) -> Step:
        rules, step = self.rules(), Step()
        budget, free = rules.token_budget, view.free_kv_blocks
        size = len(view.running) + len(view.prefilling)
        if rules.mixed:
            budget, free = budget - len(view.running), free - view.decode_blocks
        for seq in view.prefilling:
            if min(seq.prefill_left, budget) > 0:
                step.prefill[seq] = min(seq.prefill_left, budget)
                budget -= step.prefill[seq]
        if size <= rules.refill_below and free >= 0:
            self._admit(view, step, (budget, free, size))
        back = any(tokens == 0 for tokens in step.prefill.values())
        if (view.running or back) and (rules.mixed or not any(step.prefill.values())):
            step.decode = ALL
        return step

    def _admit(self, view: ReplicaView, step: Step, room: tuple[int, int, int]) -> None:
        rules, (budget, free, size) = self.rules(), room
        for seq in sorted(view.waiting, key=lambda s: (self.key(s), s.id)):
            left = seq.prefill_left
            reserve = seq.prompt_tokens + seq.limit_tokens if self.reserves_limit else left
            need = blocks_for(reserve or seq.context_tokens + 1, view.block_tokens)
            fits = need <= free - (view.watermark_blocks if size else 0)
            chunk = min(left, max(budget, 0)) if rules.chunked else left
            late = left > 0 and (chunk <= 0 or (chunk > budget and any(step.prefill.values())))
            late = late or (left == 0 and rules.mixed and budget <= 0)
            if size >= rules.max_batch or not fits or late:
                break
            step.prefill[seq] = chunk
            budget -= chunk if left else int(rules.mixed)
            free, size = free - need, size + 1


class Static(RuleBatching):
    """Request-level batching, before Orca: form a batch, run it until its longest output is done."""

    reserves_limit: ClassVar[bool] = True
    holds_batch: ClassVar[bool] = True
    max_batch: PositiveInt = Field(8, description="Most requests in a batch.")

    def rules(self) -> Rules:
        return Rules(self.max_batch, 1 << 40, mixed=False, chunked=False, refill_below=0)


class Orca(RuleBatching):
    """Iteration-level batching with memory reserved for the longest output (Orca, OSDI 2022)."""

    reserves_limit: ClassVar[bool] = True
    max_batch: PositiveInt = Field(256, description="Most sequences in the batch.")
    token_budget: PositiveInt = Field(8192, description="Most tokens of a pass.")

    def rules(self) -> Rules:
        return Rules(self.max_batch, self.token_budget, mixed=True, chunked=False, refill_below=1 << 40)


class PrefillFirst(RuleBatching):
    """Whole prompts first, alone in their pass, then decodes, with paged memory (vLLM 0.x)."""

    max_batch: PositiveInt = Field(256, description="Most sequences in the batch.")
    token_budget: PositiveInt = Field(8192, description="Most prompt tokens of a pass.")

    def rules(self) -> Rules:
        return Rules(self.max_batch, self.token_budget, mixed=False, chunked=False, refill_below=1 << 40)


class Chunked(RuleBatching):
    """Decode everything, then fill the token budget with chunks of prompts (Sarathi-Serve; vLLM 1.x)."""

    max_batch: PositiveInt = Field(256, description="Most sequences in the batch.")
    token_budget: PositiveInt = Field(2048, description="Most tokens of a pass, decodes included.")

    def rules(self) -> Rules:
        return Rules(self.max_batch, self.token_budget, mixed=True, chunked=True, refill_below=1 << 40)


class DecodeFirst(RuleBatching):
    """Finish what decodes before new prompts start, once the batch has drained to a share of its size."""

    max_batch: PositiveInt = Field(256, description="Most sequences in the batch.")
    token_budget: PositiveInt = Field(8192, description="Most prompt tokens of a pass.")
    refill_share: float = Field(0.0, ge=0, lt=1, description="Admit once at most this share still runs.")

    def rules(self) -> Rules:
        below = int(self.refill_share * self.max_batch)
        return Rules(self.max_batch, self.token_budget, mixed=False, chunked=False, refill_below=below)


class ShortestFirst(Chunked):
    """Chunked, but the shortest waiting prompt goes first; long prompts may starve."""

    def key(self, request: RequestView) -> float:
        return float(request.prompt_tokens)
