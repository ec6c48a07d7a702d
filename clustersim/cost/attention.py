"""The price of prefill attention over the prompt chunks of one pass; compiled, the engine calls it.

``t = launch + [(pairs flop / (P ea S/(S+S0) min(1, items^u)))^q + (bytes / (BW em))^q]^(1/q)``
(the fitted form of the cost model; *pairs* are query-key pairs under the causal mask). All terms are
of one replica: divided by its tensor-parallel ranks, summed over its layers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from clustersim.kernels import entry

Array = np.ndarray[Any, Any]

# Places in the parameter vector ``StepPrices.prefill``.
LAUNCH_S = 0
"""Launches of the attention kernels of all layers, seconds a pass."""
PAIR_S = 1
"""Seconds a query-key pair at full efficiency, all layers with full attention together."""
WINDOW_PAIR_S = 2
"""The same for all layers with a sliding window."""
HALF_TOKENS = 3
"""S0: the context at which efficiency is half of its limit."""
ITEMS = 4
"""Work items per 128 query rows as a share of the processors: local heads / processors."""
FILL_POWER = 5
"""u: how efficiency falls while the items do not fill the processors."""
TOKEN_S = 6
"""Memory seconds a new token: queries, outputs, written keys and values."""
CONTEXT_S = 7
"""Memory seconds a context token read, full-attention layers."""
WINDOW_CONTEXT_S = 8
"""Memory seconds a context token read inside the window, windowed layers."""
NORM = 9
"""q of the p-norm."""
WINDOW_TOKENS = 10
"""Length of the sliding window, 0 if none."""
SIZE = 11


@entry
def prefill_work(p: Array, chunk: int, past: int) -> tuple[float, float, float]:
    """Return (compute seconds, memory seconds, items) of *chunk* new tokens after *past* cached ones."""
    context = chunk + past
    pairs = chunk * past + 0.5 * chunk * (chunk + 1.0)
    window = p[10]
    window_pairs = 0.0
    window_context = 0.0
    if window > 0.0:
        growing = min(float(chunk), max(0.0, window - past))
        window_pairs = growing * past + 0.5 * growing * (growing + 1.0) + (chunk - growing) * window
        window_context = min(float(context), window + chunk)
    compute = (p[1] * pairs + p[2] * window_pairs) * (context + p[3]) / context
    memory = p[6] * chunk + p[7] * context + p[8] * window_context
    return compute, memory, p[4] * math.ceil(chunk / 128.0)


@entry
def prefill_parts(p: Array, compute: float, memory: float, items: float) -> tuple[float, float, float]:
    """Return a pass's (compute, memory, launch) seconds from the sums of ``prefill_work`` over its chunks."""
    compute = compute / min(1.0, items ** p[5])
    if compute <= 0.0 and memory <= 0.0:
        return 0.0, 0.0, p[0]
    top = max(compute, memory)
    q = p[9]
    c = (compute / top) ** q
    m = (memory / top) ** q
    norm = top * (c + m) ** (1.0 / q)
    return norm * c / (c + m), norm * m / (c + m), p[0]
