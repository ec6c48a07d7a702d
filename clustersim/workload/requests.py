"""The requests of one run as columns: what every engine, policy and writer is handed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The prefix blocks of each request's prompt: equal ids stand for equal, reusable content.

    Request i has ``ids[offsets[i]:offsets[i + 1]]``, in the order of its prompt, each a block of
    *block_tokens* tokens (the last may be partly filled).
    """

    ids: np.ndarray
    offsets: np.ndarray
    block_tokens: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, request: int) -> np.ndarray:
        """Return the block ids of one request."""
        return self.ids[self.offsets[request] : self.offsets[request + 1]]

    def take(self, rows: np.ndarray) -> Blocks:
        """Return the blocks of some requests, in the order of *rows* (numbers or a mask)."""
        rows = np.arange(len(self))[rows]
        return self._cut(rows, np.diff(self.offsets)[rows])

    def shorten(self, prompt_tokens: np.ndarray) -> Blocks:
        """Return the blocks that prompts of these lengths still have."""
        most = -(-prompt_tokens // self.block_tokens)
        return self._cut(np.arange(len(self)), np.minimum(np.diff(self.offsets), most))

    def _cut(self, rows: np.ndarray, counts: np.ndarray) -> Blocks:
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return replace(self, ids=self.ids[np.repeat(self.offsets[rows], counts) + within], offsets=offsets)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests in order of arrival: one entry of each column a request.

    *limit_tokens* is the most output tokens the client allows, never below *output_tokens*.
    *notes* say what was dropped, clipped, shifted or sorted on the way, and why. In a closed loop
    nobody knows when a request arrives before the run, and *arrival_s* is all zeros.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    limit_tokens: np.ndarray
    tenant: list[str] | None = None
    blocks: Blocks | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)

    def take(self, rows: np.ndarray) -> Self:
        """Return some of the requests, in the order of *rows* (numbers or a mask)."""
        numbers = np.arange(len(self))[rows]
        return replace(
            self,
            arrival_s=self.arrival_s[numbers],
            prompt_tokens=self.prompt_tokens[numbers],
            output_tokens=self.output_tokens[numbers],
            limit_tokens=self.limit_tokens[numbers],
            tenant=None if self.tenant is None else [self.tenant[i] for i in numbers],
            blocks=None if self.blocks is None else self.blocks.take(numbers),
        )
