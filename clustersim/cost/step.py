"""What a forward pass of one replica takes, compiled into arrays that the engine looks up.

A pass computes *tokens* new tokens. Its price is the sum of

- ``pass_s[tokens]``: everything that depends on the number of tokens alone (GEMMs, elementwise,
  experts, all-reduces, the iteration overhead of the software stack),
- ``output_s[sequences that emit a token]``: logits and sampling,
- decode attention, affine by construction: ``decode_s[0] + decode_s[1] n + decode_s[2] S + decode_s[3] W``
  for n decoding sequences with S tokens of context in all, of which W lie inside the sliding window,
- prefill attention over the chunks of prompts (``clustersim.cost.attention``).

Every entry has four parts, in the order of ``PARTS``; a price is their sum. Pure arithmetic, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

PARTS: Final = ("compute_s", "memory_s", "network_s", "overhead_s")


@dataclass(frozen=True, slots=True, eq=False)
class StepPrices:
    """The compiled prices of one replica; times in seconds, of the whole replica in lockstep."""

    pass_s: np.ndarray
    """float64 (max tokens + 1, 4): by the tokens of the pass; row 0 is zero."""
    output_s: np.ndarray
    """float64 (max sequences + 1, 4): by the sequences that emit a token; row 0 is zero."""
    decode_s: np.ndarray
    """float64 (4, 4): rows = any decode at all, a sequence, a context token, a token inside the window."""
    window_tokens: int
    """Length of the sliding window of the windowed layers; 0 if there are none."""
    prefill: np.ndarray
    """float64 vector, the parameters of ``clustersim.cost.attention.prefill_work`` and ``prefill_parts``."""
    power_w: np.ndarray
    """float64 (5,): watts of all accelerators of the replica when idle, and while bound by each of PARTS."""
    swap_s_per_token: float
    """Seconds to move one token's keys and values between accelerator and host memory."""
