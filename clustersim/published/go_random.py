"""Go's default random numbers (math/rand before Go 1.20), to take jobs in the order in which others did.

The generator adds lagged values, x(n) = x(n - 607) + x(n - 273) modulo 2**64. Go mixes its seed with the
state after 7.8e12 steps from a fixed start. That state is computed here: the step is a shift, so any
number of steps is a power of x in a ring of polynomials.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LENGTH, _TAP, _FEED = 607, 273, 334
_STEPS: Final = 7_800_000_000_000
_MODULUS: Final = 2**31 - 1
_MASK: Final = 2**64 - 1
Words = NDArray[np.uint64]


class GoRandom:
    """The stream that ``rand.Seed(seed)`` starts.

    >>> draws = GoRandom(1)
    >>> [draws.below(100) for _ in range(8)]
    [81, 87, 47, 59, 81, 18, 25, 40]
    """

    def __init__(self, seed: int):
        self._state = [
            word ^ int(mixed) for word, mixed in zip(_words(seed, (40, 20)), _mixed_in(), strict=True)
        ]
        self._tap, self._feed = 0, _FEED

    def word(self) -> int:
        """Return the next 63 bits."""
        self._tap, self._feed = (self._tap - 1) % _LENGTH, (self._feed - 1) % _LENGTH
        self._state[self._feed] = (self._state[self._feed] + self._state[self._tap]) & _MASK
        return self._state[self._feed] & (_MASK >> 1)

    def below(self, n: int) -> int:
        """Return a number in [0, n) as ``rand.Intn`` does."""
        if n & (n - 1) == 0:
            return (self.word() >> 32) & (n - 1)
        most = 2**31 - 1 - 2**31 % n
        while (drawn := self.word() >> 32) > most:
            pass
        return drawn % n

    def shuffle(self, values: list[Any]) -> None:
        """Put *values* in another order, in place, as ``rand.Shuffle`` does."""
        for last in range(len(values) - 1, 0, -1):
            other = self._scaled(last + 1)
            values[last], values[other] = values[other], values[last]

    def _scaled(self, n: int) -> int:
        product = (self.word() >> 31) * n
        while product & 0xFFFFFFFF < (2**32 - n) % n:
            product = (self.word() >> 31) * n
        return product >> 32


def _words(seed: int, shifts: tuple[int, int]) -> list[int]:
    """Return the start of a state: three draws of a linear generator a word, the first twenty left out."""
    x, found = seed % _MODULUS or 89_482_311, []
    for number in range(-20, _LENGTH):
        x = 48_271 * x % _MODULUS
        if number >= 0:
            high, middle = x, 48_271 * x % _MODULUS
            x = 48_271 * middle % _MODULUS
            found.append((high << shifts[0] ^ middle << shifts[1] ^ x) & _MASK)
    return found


@cache
def _mixed_in() -> Words:
    """Return the state that Go mixes with a seed."""
    start = np.array(_words(1, (20, 10)), dtype=np.uint64)
    numbers = (_FEED + _LENGTH - 1 - np.arange(_LENGTH)) % _LENGTH
    history, power = start[numbers], _power(_STEPS)
    state = np.zeros(_LENGTH, dtype=np.uint64)
    for step in range(_LENGTH):
        state[(_FEED - (_STEPS - _LENGTH + 1 + step)) % _LENGTH] = (power * history).sum(dtype=np.uint64)
        power = _reduced(np.concatenate([np.zeros(1, np.uint64), power]))
    return state


def _power(exponent: int) -> Words:
    """Return x**exponent modulo the recurrence."""
    found = np.zeros(_LENGTH, dtype=np.uint64)
    found[0] = 1
    for bit in f"{exponent:b}":
        found = _reduced(np.convolve(found, found))
        if bit == "1":
            found = _reduced(np.concatenate([np.zeros(1, np.uint64), found]))
    return found


def _reduced(polynomial: Words) -> Words:
    """Return *polynomial* modulo x**607 - x**334 - 1, with coefficients modulo 2**64."""
    rest = polynomial.copy()
    with np.errstate(over="ignore"):
        for degree in range(len(rest) - 1, _LENGTH - 1, -1):
            rest[degree - _LENGTH] += rest[degree]
            rest[degree - _TAP] += rest[degree]
    return rest[:_LENGTH]
