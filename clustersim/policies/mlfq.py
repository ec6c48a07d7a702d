"""Skip-join multi-level feedback queue, after FastServe (Wu et al., arXiv 2305.05920).

A request's level follows from the work it has had, so the policy keeps no state: it joins at the first
level whose quantum covers its prompt, and sinks a level each time it has used a quantum up.
"""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from clustersim.policies.base import BatchingPolicy, ReplicaView, RequestView, Step, blocks_for
from clustersim.units import Seconds


class SkipJoinMLFQ(BatchingPolicy):
    """Serve the requests that had the least work so far; long ones sink and are preempted."""

    max_batch: PositiveInt = Field(256, description="Most sequences in the batch.")
    token_budget: PositiveInt = Field(4096, description="Most tokens of a pass, decodes included.")
    quantum_passes: PositiveInt = Field(8, description="Passes in the quantum of the first level.")
    growth: float = Field(2.0, gt=1, description="Each level's quantum is longer by this factor.")
    levels: PositiveInt = Field(8, description="Number of levels.")
    prompt_tokens_per_pass: PositiveFloat = Field(
        256.0, description="Prompt tokens whose prefill takes as long as one decode pass."
    )
    starvation: Seconds = Field(30.0, description="One who had no token for so long goes first.")

    def next_step(self, view: ReplicaView) -> Step:
        step = Step()
        everyone = [*view.running, *view.paused, *view.prefilling, *view.waiting]
        first = sorted(everyone, key=lambda seq: (self._level(seq, view.now_s)[0], seq.id))
        waiting = set(view.waiting)
        chosen, newcomers = self._fit(first, waiting, view)
        budget = self.token_budget
        ready = set(view.running) | set(view.paused)
        decode = [seq for seq in chosen if seq in ready]
        step.decode = decode
        budget -= len(decode)
        for seq in chosen:
            if seq not in ready and (seq.prefill_left == 0 or budget > 0):
                step.prefill[seq] = min(seq.prefill_left, max(budget, 0))
                budget -= step.prefill[seq] or 1
        step.preempt = self._victims([seq for seq in first if seq not in set(chosen)], newcomers, view)
        left = min((self._level(seq, view.now_s)[1] for seq in decode), default=1)
        step.passes = min(left, _passes_that_fit(decode, view))
        if len(chosen) < len(first):
            step.passes = 1  # who is left out may fit, or starve, after any pass
        return step

    def _level(self, seq: RequestView, now_s: float) -> tuple[int, int]:
        """Return the level of *seq* and the passes it has left there."""
        quantum, level = float(self.quantum_passes), 0
        need = seq.prompt_tokens / self.prompt_tokens_per_pass
        while quantum < need and level < self.levels - 1:
            quantum, level = quantum * self.growth, level + 1
        used = float(seq.generated_tokens)
        while used >= int(quantum) and level < self.levels - 1:
            used, quantum, level = used - int(quantum), quantum * self.growth, level + 1
        left = max(1, int(quantum) - int(used)) if level < self.levels - 1 else 1 << 30
        starves = now_s - seq.last_token_s > self.starvation
        return (-1 if starves else level), left

    def _fit(
        self, first: list[RequestView], waiting: set[RequestView], view: ReplicaView
    ) -> tuple[list[RequestView], list[RequestView]]:
        """Choose the best that fit the batch and all blocks, and say who of them must be admitted."""
        room = view.total_kv_blocks - view.watermark_blocks
        chosen: list[RequestView] = []
        for seq in first:
            tokens = max(seq.context_tokens, seq.context_tokens + seq.prefill_left) + 1
            need = blocks_for(tokens, view.block_tokens)
            if len(chosen) == self.max_batch or (chosen and need > room):
                break
            chosen.append(seq)
            room -= need
        return chosen, [seq for seq in chosen if seq in waiting]

    def _victims(
        self, others: list[RequestView], newcomers: list[RequestView], view: ReplicaView
    ) -> list[RequestView]:
        """Choose of the *others* whom to take the cache from, the last first, so that *newcomers* fit."""
        lack = sum(blocks_for(s.prefill_left + s.context_tokens + 1, view.block_tokens) for s in newcomers)
        lack += len(view.running) + len(view.paused) - view.free_kv_blocks
        holders = set(view.running) | set(view.paused) | set(view.prefilling)
        victims: list[RequestView] = []
        for seq in reversed(others):
            if lack > 0 and seq in holders:
                victims.append(seq)
                lack -= blocks_for(seq.context_tokens + seq.prefill_left, view.block_tokens)
        return victims


def _passes_that_fit(decode: list[RequestView], view: ReplicaView) -> int:
    """Return for how many passes all of *decode* surely fit the blocks that ``_fit`` shares out."""
    need = sum(blocks_for(seq.context_tokens + 1, view.block_tokens) for seq in decode)
    room = view.total_kv_blocks - view.watermark_blocks - need
    return max(1, room // max(1, len(decode)) * view.block_tokens)
