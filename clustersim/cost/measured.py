"""Lay a measured table over the prices of a replica, after checking it against the hardware's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.compute import Price
from clustersim.cost.table import MeasuredTable, Row, blend, ratios, too_fast
from clustersim.errors import Problem, SpecError, UnknownNameError
from clustersim.models.operators import Attention, Gemm, Operator
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.precision import BYTES, Precision

Floats = NDArray[np.float64]

TOLERANCE = 0.95
"""A row this close under the limit passes: clocks may boost and timers round."""
CACHED = 3.0
"""Products that move less than so many times the cache may run from it: memory does not limit them."""


def check(
    table: MeasuredTable,
    accelerator: Accelerator,
    precision: Precision,
    local: Iterable[Operator],
    data: int = 1,
) -> None:
    """Raise SpecError with every row that beats the limit of *data* groups with the operators *local*."""
    limits = _Limits(accelerator, precision, tuple(local), data)
    problems: list[Problem] = []
    for row in table.rows:
        try:
            limit_s = limits.of(row)
        except UnknownNameError as error:
            problems.append(Problem("dtype", str(error), table.file, row.line))
            continue
        if row.seconds < TOLERANCE * limit_s:
            problems.append(too_fast(table, row, limit_s))
    if problems:
        raise SpecError(problems)


def product_ratios(
    table: MeasuredTable,
    operator: Gemm,
    tokens: Floats,
    dtype: str,
    predict: Callable[[Gemm, Floats], Floats],
) -> Floats:
    """Return by how much the measured products in *dtype* differ from those that *predict* tells.

    *predict* returns the seconds of a product for an array of rows; the ratios are those at *operator*.
    """
    pairs: dict[tuple[float, float], list[Row]] = {}
    for row in table.of("gemm", dtype):
        pairs.setdefault((row.sizes[1], row.sizes[2]), []).append(row)
    known: dict[tuple[float, float], Floats] = {}
    for (n, k), rows in pairs.items():
        sizes = np.array([row.sizes[0] for row in rows])
        predicted = predict(Gemm("measured", 1, int(n), int(k)), sizes)
        known[n, k] = ratios(sizes, np.array([row.seconds for row in rows]), predicted, tokens)
    return blend((operator.n, operator.k), known) if known else np.ones_like(tokens)


def pass_ratios(table: MeasuredTable, tokens: Floats, predict: Callable[[Floats], Floats]) -> Floats:
    """Return by how much the measured passes differ from those that *predict* tells from their tokens."""
    rows = table.of("pass")
    if not rows:
        return np.ones_like(tokens)
    sizes = np.array([row.sizes[0] for row in rows])
    return ratios(sizes, np.array([row.seconds for row in rows]), predict(sizes), tokens)


def decode_factors(table: MeasuredTable, predicted_s: Floats, window_tokens: int) -> Floats:
    """Return factors for the four terms of affine decode prices, by relative least squares of the rows.

    The two terms of context share one factor; a term that the rows do not need becomes zero.
    """
    rows = table.of("decode")
    if not rows:
        return np.ones(4)
    sequences, context = np.array([row.sizes for row in rows]).T
    inside = np.minimum(context, window_tokens)
    once, sequence, token, window = predicted_s
    terms = np.stack(
        [np.full_like(context, once), sequences * sequence, sequences * (context * token + inside * window)]
    )
    factors = _factors((terms / np.array([row.seconds for row in rows])).T)
    return np.append(factors, factors[2])


def scaled(price: Price, factor: Floats) -> Price:
    """Return *price* with each part multiplied by *factor*."""
    return Price(*(part * factor for part in price.columns))


def _factors(terms: Floats) -> Floats:
    """Return the factors, none negative, with which the sum of *terms* is nearest to one."""
    active = list(range(terms.shape[1]))
    factors = np.zeros(terms.shape[1])
    while active:
        found = np.linalg.lstsq(terms[:, active], np.ones(len(terms)), rcond=None)[0]
        if (found >= 0.0).all():
            factors[active] = found
            break
        active.remove(active[int(np.argmin(found))])
    return factors


@dataclass(frozen=True, slots=True)
class _Limits:
    """The least times that the data sheet allows."""

    accelerator: Accelerator
    precision: Precision
    operators: tuple[Operator, ...]
    data: int

    def of(self, row: Row) -> float:
        if row.kind == "gemm":
            return self._product_s(row)
        if row.kind == "decode":
            return row.sizes[0] * row.sizes[1] * self._context_s() / self.data
        return row.sizes[0] * self._token_s() / self.data

    def _product_s(self, row: Row) -> float:
        m, n, k = row.sizes
        if row.dtype not in BYTES:
            raise UnknownNameError("number format", row.dtype, BYTES)
        moved = BYTES[row.dtype] * (m * k + n * k) + 2.0 * m * n
        compute_s = 2.0 * m * n * k / self.accelerator.flop_per_s(row.dtype)
        if moved < CACHED * (self.accelerator.cache or 0.0):
            return compute_s
        return max(compute_s, moved / self.accelerator.memory_bandwidth)

    def _context_s(self) -> float:
        attention = (o for o in self.operators if isinstance(o, Attention) and not o.window_tokens)
        elements = sum(o.layers * o.context_elements for o in attention)
        return elements * self.precision.kv_bytes / self.accelerator.memory_bandwidth

    def _token_s(self) -> float:
        products = (o for o in self.operators if isinstance(o, Gemm) and o.kind == "gemm")
        flop = sum(2.0 * o.layers * o.weight_elements for o in products)
        return flop / self.accelerator.flop_per_s(self.precision.activations)
