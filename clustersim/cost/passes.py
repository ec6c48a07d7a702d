"""A forward pass as a price written in Python is shown it, instead of the compiled prices. No clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PassShape:
    """What one pass computes: a token for each decoding sequence, and chunks of prompts."""

    decodes: int
    """Sequences that decode."""
    context_tokens: int
    """Tokens in the caches of all of these together, before the pass."""
    chunks: tuple[tuple[int, int], ...]
    """Of each prompt chunk: tokens of its prompt already computed, and new tokens."""

    @property
    def tokens(self) -> int:
        """New tokens of the pass."""
        return self.decodes + sum(new for _, new in self.chunks)


class PassPrice(Protocol):
    """Anything that knows how long a pass takes."""

    def seconds(self, shape: PassShape) -> float:
        """Return the seconds of a pass, above zero."""
