"""The closed forms of collective algorithms between equal ranks: dependent steps, and bytes each sends.

They are exact counts of what ``clustersim.network.loads`` lays on links; a test holds the two together. All
but the direct forms are pipelined in chunks, so that every rank sends for the whole of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.spec.efficiency import Operation

Algorithm = Literal[
    "ring", "tree", "double_tree", "halving_doubling", "bruck", "pairwise", "direct", "nvls", "in_network"
]


@dataclass(frozen=True, slots=True)
class Shape:
    """What an algorithm takes: *time = steps alpha + sent_share bytes / bandwidth*."""

    steps: int
    """Dependent messages."""
    sent_share: float
    """Bytes that the busiest rank sends, as a share of the buffer."""


def shape(algorithm: Algorithm, operation: Operation, ranks: int) -> Shape:
    """Return the closed form of *algorithm*; raise UnknownNameError if it does not do *operation*.

    >>> shape("ring", "all_reduce", 4)
    Shape(steps=6, sent_share=1.5)
    """
    if algorithm not in ALGORITHMS:
        raise UnknownNameError("collective algorithm", algorithm, ALGORITHMS)
    if ranks <= 1:
        return Shape(0, 0.0)
    forms = ALGORITHMS[algorithm]
    if operation not in forms:
        raise UnknownNameError(f"operation of algorithm {algorithm}", operation, forms)
    return forms[operation](ranks)


def torus_shape(operation: Operation, sides: tuple[int, ...]) -> Shape:
    """Return the closed form of rings along all dimensions of a torus at once, both ways round.

    The buffer is cut into one part for each direction of each dimension; a part reduces along its own
    dimension first and along the others in turn. *sent_share* is of the busiest link in one direction; in a
    cube all carry the same.
    """
    if operation not in ("all_reduce", "all_gather", "reduce_scatter"):
        raise UnknownNameError("operation of torus rings", operation, ALGORITHMS["ring"])
    long = [side for side in sides if side > 1]
    laps = 2 if operation == "all_reduce" else 1
    share = max(map(_turns, (long[axis:] + long[:axis] for axis in range(len(long)))), default=0.0)
    return Shape(laps * sum(side - 1 for side in long), laps * share / (2 * max(1, len(long))))


def _turns(sides: list[int]) -> float:
    """Return what all parts send along the first of *sides*, in parts, each starting at another dimension."""
    own = (sides[0] - 1) / sides[0]
    return own * sum(1.0 / math.prod(sides[start:]) for start in range(1, len(sides) + 1))


def _even(laps: int, count: Callable[[int], int]) -> Callable[[int], Shape]:
    """Return the form of algorithms that send (n-1)/n of the buffer each lap in *count* steps."""
    return lambda n: Shape(laps * count(n), laps * (n - 1) / n)


def _chain(n: int) -> Shape:
    return Shape(n - 1, 1.0)


def _one_step(n: int) -> int:
    return 1


def _ring(n: int) -> int:
    return n - 1


def _rounds(n: int) -> int:
    return math.ceil(math.log2(n))


def _powers(n: int) -> int:
    if n & (n - 1):
        raise ClusterSimError(f"halving and doubling of a scatter or gather needs 2, 4, 8 ... ranks, not {n}")
    return _rounds(n)


def _folded(n: int) -> Shape:
    """Halving and doubling between the largest power of two; the others hand in and get back everything."""
    inner = 1 << (n.bit_length() - 1)
    extra = n > inner
    return Shape(2 * _rounds(inner) + 2 * extra, 2 * (inner - 1) / inner + extra)


def _heap(up: int, down: int) -> Callable[[int], Shape]:
    """Return the form of one binary tree in which rank r is the parent of 2r+1 and 2r+2."""

    def form(n: int) -> Shape:
        sent = max(up * (rank > 0) + down * _children(rank, n) for rank in range(min(n, 3)))
        return Shape((up + down) * (n.bit_length() - 1), float(sent))

    return form


def _children(rank: int, n: int) -> int:
    return max(0, min(2, n - 1 - 2 * rank))


def _double(n: int) -> Shape:
    """Two trees with half of the buffer each; inner ranks of one are the other's leaves."""
    return Shape(2 * _rounds(n), {2: 1.0, 3: 1.5}.get(n, 2.0))


def _bruck_exchange(n: int) -> Shape:
    """Each round sends the blocks whose distance has the round's bit."""
    sent = sum(bin(distance).count("1") for distance in range(n))
    return Shape(_rounds(n), sent / n)


Forms = Mapping[Operation, Callable[[int], Shape]]


def _gathers(count: Callable[[int], int]) -> dict[Operation, Callable[[int], Shape]]:
    return {"all_gather": _even(1, count), "reduce_scatter": _even(1, count)}


ALGORITHMS: Final[Mapping[Algorithm, Forms]] = MappingProxyType(
    {
        "ring": {"all_reduce": _even(2, _ring), **_gathers(_ring), "broadcast": _chain, "reduce": _chain},
        "tree": {"all_reduce": _heap(1, 1), "broadcast": _heap(0, 1), "reduce": _heap(1, 0)},
        "double_tree": {"all_reduce": _double},
        "halving_doubling": {"all_reduce": _folded, **_gathers(_powers)},
        "bruck": {"all_gather": _even(1, _rounds), "all_to_all": _bruck_exchange},
        "pairwise": {"all_to_all": _even(1, _ring)},
        "direct": {
            "all_to_all": _even(1, _one_step),
            **_gathers(_one_step),
            "all_reduce": lambda n: Shape(1, n - 1.0),
            "send_recv": lambda _: Shape(1, 1.0),
        },
        "nvls": {"all_reduce": lambda n: Shape(2, 1.0 + 1.0 / n)},
        "in_network": {"all_reduce": lambda _: Shape(2, 1.0)},
    }
)
"""By algorithm and operation, the closed form as a function of the number of ranks."""
