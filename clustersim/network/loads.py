"""Who sends how much to whom in a collective, by algorithm: exact, per byte of the buffer. No clock.

``route.link_load`` turns these pairs into bytes on links. A *group* lists endpoints in the order of ranks;
the first is the root of a broadcast or reduction. The buffer counts as nccl-tests counts it: the vector of
an all-reduce, the result of an all-gather, the input of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from clustersim.errors import ClusterSimError, UnknownNameError
from clustersim.network.route import Traffic
from clustersim.network.topology import Array

MOST_PAIRS: Final = 1 << 24
"""Pairs that are listed at most; larger all-to-alls are priced without links."""
LAPS: Final[Mapping[str, int]] = MappingProxyType(
    {"all_reduce": 2, "barrier": 2, "all_gather": 1, "reduce_scatter": 1}
)
"""How often (n-1)/n of the buffer goes round."""


def traffic(algorithm: str, operation: str, group: Any) -> Traffic:
    """Return the pairs of *operation* by *algorithm*; raise UnknownNameError if it cannot do that."""
    if algorithm not in _PAIRS:
        raise UnknownNameError("collective algorithm with pairs", algorithm, _PAIRS)
    ranks = np.asarray(group)
    if len(ranks) < 2:
        return Traffic.of(ranks[:0], ranks[:0])
    return _listed(ranks, *_PAIRS[algorithm](operation, len(ranks)))


def torus_traffic(operation: str, group: Any, sides: tuple[int, ...]) -> Traffic:
    """Return the pairs of rings along all dimensions of a torus, both ways round.

    The group is in row-major order. One part of the buffer starts along each dimension in each direction and
    goes on along the others in turn; with each dimension what is left shrinks by its length.
    """
    ranks = np.asarray(group).reshape(sides)
    laps, long = _laps(operation, "torus rings"), [d for d, side in enumerate(sides) if side > 1]
    pairs: list[Traffic] = []
    for start in range(len(long)):
        left = 1.0 / (2 * len(long))
        for axis in [*long[start:], *long[:start]]:
            share = laps * left * (sides[axis] - 1) / sides[axis]
            pairs += [Traffic.of(ranks.ravel(), np.roll(ranks, way, axis).ravel(), share) for way in (1, -1)]
            left /= sides[axis]
    return merged(pairs)


def domain_rings(operation: str, group: Any, domain: int) -> Traffic:
    """Return the pairs of flat rings over domains of *domain* ranks, as many rings as a domain has ranks.

    Each ring leaves a domain from another rank, always for the rank in the same place of the next domain, so
    that all adapters carry the same and stay on their rails (an odd number of domains crosses rails once).
    Broadcasts and reductions go along chains, which are rings without the hop that closes them at the root.
    """
    ranks = _domains(group, domain)
    rings = [_leaving_at(ranks, start) for start in range(domain)]
    if operation in ("broadcast", "reduce"):
        root = ranks.flat[0]
        chains = [np.roll(ring, -int(np.flatnonzero(ring == root)[0])) for ring in rings]
        ends = [(c[:-1], c[1:]) if operation == "broadcast" else (c[1:], c[:-1]) for c in chains]
        return merged([Traffic.of(*pair, 1.0 / domain) for pair in ends])
    share = _laps(operation, "rings over domains") * (ranks.size - 1) / ranks.size / domain
    return merged([Traffic.of(ring, np.roll(ring, -1), share) for ring in rings])


def rails(algorithm: str, operation: str, group: Any, domain: int) -> Traffic:
    """Return the pairs of *operation* between domains only: ranks in the same place work on their share."""
    ranks = _domains(group, domain)
    parts = [traffic(algorithm, operation, ranks[:, place]) for place in range(domain)]
    return merged([Traffic(p.source, p.target, p.share / domain) for p in parts])


def hierarchical(operation: str, group: Any, domain: int, between: str = "ring") -> Traffic:
    """Return the pairs of *operation* by rings inside domains and the algorithm *between* on each rail."""
    inner = [traffic("ring", operation, part) for part in _domains(group, domain)]
    return merged([*inner, rails(between, operation, group, domain)])


def switched(group: Any, domain: int) -> Traffic:
    """Return an all-reduce that the switch of each domain adds up, as pairs that load the same links.

    Every rank sends its buffer to the switch, and the sum of its share; here the next rank stands for it.
    """
    rows = _domains(group, domain)
    return Traffic.of(rows.ravel(), np.roll(rows, -1, axis=1).ravel(), 1.0 + 1.0 / domain)


def rail_exchange(group: Any, domain: int) -> Traffic:
    """Return the pairs of an all-to-all that first hands everything to the receiver's rail at home."""
    ranks = _domains(group, domain)
    inner = [traffic("pairwise", "all_to_all", part) for part in ranks]
    return merged([*inner, *(traffic("pairwise", "all_to_all", rail) for rail in ranks.T)])


def merged(parts: list[Traffic]) -> Traffic:
    """Return all pairs of *parts*, one entry a pair."""
    source, target, share = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("source", "target", "share")
    )
    span = int(max(source.max(initial=0), target.max(initial=0))) + 1
    keys, place = np.unique(source * span + target, return_inverse=True)
    return Traffic(keys // span, keys % span, np.bincount(place, weights=share, minlength=len(keys)))


def sent(pairs: Traffic) -> Array:
    """Return the bytes that each endpoint sends per byte of the buffer, by number."""
    return np.bincount(pairs.source, weights=pairs.share)


def _listed(ranks: Array, source: Array, target: Array, share: Any) -> Traffic:
    return Traffic.of(ranks[source], ranks[target], share)


def _domains(group: Any, domain: int) -> Array:
    """Return the group as one row a domain."""
    ranks = np.asarray(group)
    if domain < 1 or len(ranks) % domain:
        raise ClusterSimError(f"{len(ranks)} ranks do not divide into domains of {domain}")
    return ranks.reshape(-1, domain)


def _leaving_at(ranks: Array, start: int) -> Array:
    """Return a ring that runs through each domain from place *start* round to the one before, and back."""
    order = np.roll(np.arange(ranks.shape[1]), -start)
    forth = np.arange(len(ranks)) % 2 == 0
    return np.where(forth[:, None], ranks[:, order], ranks[:, order[::-1]]).ravel()


def _laps(operation: str, algorithm: str) -> int:
    if operation not in LAPS:
        raise UnknownNameError(f"operation of {algorithm}", operation, LAPS)
    return LAPS[operation]


Pairs = tuple[Array, Array, Any]


def _ring(operation: str, n: int) -> Pairs:
    ranks = np.arange(n)
    if operation == "broadcast":
        return ranks[:-1], ranks[1:], 1.0
    if operation == "reduce":
        return ranks[1:], ranks[:-1], 1.0
    return ranks, (ranks + 1) % n, _laps(operation, "ring") * (n - 1) / n


def _both_ways(operation: str, parent: Array, share: float) -> Pairs:
    """Return the pairs of a tree: up for what is reduced, down for what is spread."""
    child = np.flatnonzero(parent >= 0)
    up = (child, parent[child]) if operation in ("all_reduce", "barrier", "reduce") else (child[:0],) * 2
    down = (parent[child], child) if operation in ("all_reduce", "barrier", "broadcast") else (child[:0],) * 2
    if operation not in ("all_reduce", "barrier", "reduce", "broadcast"):
        raise UnknownNameError("operation of trees", operation, ("all_reduce", "broadcast", "reduce"))
    return np.concatenate([up[0], down[0]]), np.concatenate([up[1], down[1]]), share


def _tree(operation: str, n: int) -> Pairs:
    return _both_ways(operation, (np.arange(n) - 1) // 2, 1.0)


def _double_tree(operation: str, n: int) -> Pairs:
    """Return the pairs of two trees with half of the buffer each."""
    if operation not in ("all_reduce", "barrier"):
        raise UnknownNameError("operation of double trees", operation, ("all_reduce",))
    parent = in_order_parents(n)
    first = _both_ways(operation, parent, 0.5)
    second = _both_ways(operation, _mirrored(parent), 0.5)
    source, target = (np.concatenate([first[i], second[i]]) for i in (0, 1))
    return source, target, 0.5


def in_order_parents(n: int) -> Array:
    """Return the parent of each rank in a binary tree whose odd ranks are leaves; -1 for the root, rank 0."""
    ranks = np.arange(n)
    low = ranks & -ranks
    above = (ranks ^ low) | (low << 1)
    parent = np.where(above < n, above, ranks ^ low)
    parent[0] = -1
    return parent


def _mirrored(parent: Array) -> Array:
    """Return the tree with rank n-1-r in the place of r; of an odd number, ranks move on by one instead."""
    n = len(parent)
    if n % 2 == 0:
        turned = n - 1 - parent[::-1]
        return np.where(parent[::-1] < 0, -1, turned)
    moved = np.where(parent < 0, -1, (parent + 1) % n)
    return np.roll(moved, 1)


def _halving(operation: str, n: int) -> Pairs:
    """Return the pairs of halving and doubling; ranks beyond a power of two hand in and get back all."""
    inner = 1 << (n.bit_length() - 1)
    laps, extra = _laps(operation, "halving and doubling"), np.arange(inner, n)
    if len(extra) and laps == 1:
        raise ClusterSimError(f"halving and doubling of a scatter or gather needs 2, 4, 8 ... ranks, not {n}")
    ranks, source, target, share = np.arange(inner), [], [], []
    for bit in (1 << i for i in range(inner.bit_length() - 1)):
        source.append(ranks)
        target.append(ranks ^ bit)
        share.append(np.full(inner, laps * bit / inner))
    source += [extra, extra - inner]
    target += [extra - inner, extra]
    share += [np.ones(len(extra))] * 2
    return np.concatenate(source), np.concatenate(target), np.concatenate(share)


def _bruck(operation: str, n: int) -> Pairs:
    if operation not in ("all_gather", "all_to_all"):
        raise UnknownNameError("operation of bruck", operation, ("all_gather", "all_to_all"))
    ranks, blocks = np.arange(n), np.arange(n)
    source, target, share = [], [], []
    for bit in (1 << i for i in range((n - 1).bit_length())):
        gather = operation == "all_gather"
        sent_blocks = min(bit, n - bit) if gather else int((blocks & bit > 0).sum())
        source.append(ranks)
        target.append((ranks - bit) % n if gather else (ranks + bit) % n)
        share.append(np.full(n, sent_blocks / n))
    return np.concatenate(source), np.concatenate(target), np.concatenate(share)


def _pairwise(operation: str, n: int) -> Pairs:
    """Return all pairs: a block each, or the whole buffer where everyone reduces for himself."""
    shares = {"all_to_all": 1 / n, "all_gather": 1 / n, "reduce_scatter": 1 / n, "all_reduce": 1.0}
    if operation == "send_recv":
        return np.array([0]), np.array([1]), 1.0
    if operation not in shares:
        raise UnknownNameError("operation of direct transfers", operation, (*shares, "send_recv"))
    if n * n > MOST_PAIRS:
        raise ClusterSimError(
            f"{n:,} ranks exchange {n * (n - 1):,} blocks; up to {MOST_PAIRS:,} are laid on links one by one"
        )
    source, target = np.divmod(np.arange(n * n), n)
    apart = source != target
    return source[apart], target[apart], shares[operation]


_PAIRS: Final[Mapping[str, Callable[[str, int], Pairs]]] = MappingProxyType(
    {
        "ring": _ring,
        "tree": _tree,
        "double_tree": _double_tree,
        "halving_doubling": _halving,
        "bruck": _bruck,
        "pairwise": _pairwise,
        "direct": _pairwise,
    }
)
