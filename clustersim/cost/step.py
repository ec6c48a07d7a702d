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

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clustersim.cost import attention, compute, measured
from clustersim.cost.compute import Price
from clustersim.cost.memory import kv_bytes
from clustersim.cost.replica import Parallel, Replica, output_prices, pass_prices
from clustersim.cost.table import MeasuredTable
from clustersim.models.transformer import Transformer
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.efficiency import DecodeCurve, Efficiency, PrefillCurve
from clustersim.spec.precision import Precision
from clustersim.spec.stack import Stack

__all__ = [
    "EXACT_TOKENS",
    "PARTS",
    "Parallel",
    "Replica",
    "Sizes",
    "StepPrices",
    "breakdown",
    "compile_prices",
    "compile_replica",
]

Floats = NDArray[np.float64]

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


EXACT_TOKENS: Final = 2048
"""Passes of up to this many tokens are priced one by one; longer ones on a grid, linearly in between."""
GRID_RATIO: Final = 1.004
DEFAULT_PROCESSORS: Final = 128
"""Where a card does not say (assumed: of the order of current data-centre accelerators)."""
HOST_SHARE: Final = 0.8
"""Of the host link that pinned copies reach (assumed: typical of PCIe, cudaMemcpy of megabytes)."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The largest pass that is priced."""

    max_tokens: int = 16384
    max_sequences: int = 1024


def compile_prices(
    model: Transformer,
    accelerator: Accelerator,
    efficiency: Efficiency,
    stack: Stack,
    parallel: Parallel,
    precision: Precision,
    sizes: Sizes = Sizes(),
    table: MeasuredTable | None = None,
) -> StepPrices:
    """Compile the prices of one replica; a measured *table* is laid over them."""
    return compile_replica(Replica(model, accelerator, efficiency, stack, parallel, precision, table), sizes)


def compile_replica(replica: Replica, sizes: Sizes) -> StepPrices:
    """Compile the prices of *replica* for passes up to *sizes*."""
    if replica.table:
        accelerator, data = replica.accelerator, replica.parallel.data
        measured.check(replica.table, accelerator, replica.precision, replica.operators, data)
    return StepPrices(
        pass_s=_pass_table(replica, sizes.max_tokens),
        output_s=_output_table(replica, sizes.max_sequences),
        decode_s=_decode_rows(replica),
        window_tokens=replica.model.window_tokens if replica.model.window_layers else 0,
        prefill=_prefill_vector(replica),
        power_w=_power_w(replica),
        swap_s_per_token=_swap_s(replica),
    )


def breakdown(
    replica: Replica, tokens: int, sequences: int = 0, context_tokens: int = 0
) -> list[tuple[str, Floats]]:
    """Return by name and part what a pass of *tokens* takes, *sequences* of them decoding.

    *context_tokens* are those of all decoding sequences together. The rows add up to what
    ``compile_replica`` compiles; prefill attention, which depends on the chunks, is left out.
    """
    new, outputs = np.array([float(tokens)]), np.array([float(sequences)])
    factor = _pass_factor(replica, new)
    named = [(name, measured.scaled(price, factor)) for name, price in _named_passes(replica, new)]
    named += output_prices(replica, outputs) if sequences else ()
    rows = [(name, np.array([part[0] for part in price.columns])) for name, price in named]
    if sequences:
        inside = min(context_tokens, sequences * replica.model.window_tokens)
        rows.append(
            ("decode attention", np.array([1, sequences, context_tokens, inside]) @ _decode_rows(replica))
        )
    return rows


def _grid(max_tokens: int) -> Floats:
    exact = np.arange(1.0, min(max_tokens, EXACT_TOKENS) + 1.0)
    if max_tokens <= EXACT_TOKENS:
        return exact
    count = int(np.log(max_tokens / EXACT_TOKENS) / np.log(GRID_RATIO)) + 2
    return np.unique(np.concatenate([exact, np.rint(np.geomspace(EXACT_TOKENS, max_tokens, count))]))


def _sum(prices: Iterable[tuple[str, Price]], like: Floats) -> Floats:
    """Return the sum of named prices as rows of PARTS."""
    total = np.zeros((len(like), len(PARTS)))
    for _, price in prices:
        for column, part in enumerate(price.columns):
            total[:, column] += part
    return total


def _named_passes(replica: Replica, tokens: Floats) -> list[tuple[str, Price]]:
    """Return what a pass takes, and what an engine without graphs waits for the launches of its kernels."""
    named = list(pass_prices(replica, tokens))
    floor_s = replica.stack.layer_floor * replica.model.layers + replica.stack.iteration
    missing_s = np.maximum(0.0, floor_s - _sum(named, tokens).sum(axis=1))
    return [*named, ("launch floor", compute.overhead(missing_s))]


def _pass_factor(replica: Replica, tokens: Floats) -> Floats:
    """Return by how much measured passes differ from their prices."""
    if replica.table is None:
        return np.ones_like(tokens)
    return measured.pass_ratios(
        replica.table, tokens, lambda at: _sum(_named_passes(replica, at), at).sum(axis=1)
    )


def _table(grid: Floats, parts_s: Floats, size: int) -> Floats:
    """Return rows 0 .. *size* of the parts known on *grid*; row 0 is zero."""
    rows = np.zeros((size + 1, len(PARTS)))
    tokens = np.arange(1.0, size + 1.0)
    for column in range(len(PARTS)):
        rows[1:, column] = np.interp(tokens, grid, parts_s[:, column])
    return rows


def _pass_table(replica: Replica, max_tokens: int) -> Floats:
    grid = _grid(max_tokens)
    parts_s = _sum(_named_passes(replica, grid), grid) * _pass_factor(replica, grid)[:, None]
    return _table(grid, parts_s, max_tokens)


def _output_table(replica: Replica, max_sequences: int) -> Floats:
    sequences = np.arange(1.0, max_sequences + 1.0)
    return np.vstack([np.zeros(len(PARTS)), _sum(output_prices(replica, sequences), sequences)])


def _decode_curve(replica: Replica) -> DecodeCurve:
    curves = replica.curves
    if replica.model.latent:
        return curves.latent_decode
    return curves.decode.get(replica.precision.kv) or curves.decode["bf16"]


def _decode_rows(replica: Replica) -> Floats:
    """Return the affine price of decode attention: once, a sequence, a context token, one in the window."""
    rows, curve, data = np.zeros((4, len(PARTS))), _decode_curve(replica), replica.parallel.data
    for operator in replica.attentions():
        slopes = compute.decode_attention(operator, curve, replica.accelerator, replica.precision.kv_bytes)
        rows[0, -1] += operator.layers * slopes.launch_s
        rows[1, :2] += np.array(slopes.sequence_s) * operator.layers / data
        rows[3 if operator.window_tokens else 2, :2] += np.array(slopes.token_s) * operator.layers / data
    if replica.table:
        rows *= measured.decode_factors(replica.table, rows.sum(axis=1), replica.model.window_tokens)[:, None]
    return rows


def _prefill_vector(replica: Replica) -> Floats:
    """Return the parameters of ``clustersim.cost.attention``."""
    curves, model, data = replica.curves, replica.model, replica.parallel.data
    curve: PrefillCurve = curves.prefill.get(replica.precision.kv) or curves.prefill["bf16"]
    p = np.zeros(attention.SIZE)
    p[attention.HALF_TOKENS], p[attention.FILL_POWER] = curve.half_tokens, curve.fill_power
    p[attention.NORM], p[attention.WINDOW_TOKENS] = (
        curve.norm,
        model.window_tokens if model.window_layers else 0,
    )
    for operator in replica.attentions():
        slopes = compute.prefill_attention(operator, curve, replica.accelerator, replica.precision.kv_bytes)
        windowed = bool(operator.window_tokens)
        p[attention.LAUNCH_S] += operator.layers * curve.launch
        p[attention.WINDOW_PAIR_S if windowed else attention.PAIR_S] += operator.layers * slopes.pair_s / data
        p[attention.TOKEN_S] += operator.layers * slopes.token_s / data
        context = attention.WINDOW_CONTEXT_S if windowed else attention.CONTEXT_S
        p[context] += operator.layers * slopes.context_s / data
        p[attention.ITEMS] = operator.heads / (replica.accelerator.processors or DEFAULT_PROCESSORS) / data
    return p


def _power_w(replica: Replica) -> Floats:
    """Return the watts of the replica when idle and while bound by each of PARTS."""
    accelerator, levels = replica.accelerator, replica.curves.levels
    shares = [levels[name].power_share for name in ("compute", "memory", "network", "overhead")]
    busy = [share * accelerator.power for share in shares]
    watts = np.maximum([accelerator.idle_power, *busy], accelerator.idle_power)
    return np.asarray(watts * replica.parallel.ranks, dtype=np.float64)


def _swap_s(replica: Replica) -> float:
    """Return the time to move one token's cache over the host link; infinite without one."""
    per_token = kv_bytes(replica.model, replica.parallel, replica.precision).per_token
    link = replica.accelerator.host_bandwidth * HOST_SHARE
    return per_token / replica.parallel.data / link if link else float("inf")
