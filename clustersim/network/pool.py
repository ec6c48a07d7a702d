"""Numbers of activities and places for their entries, handed out and taken back."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Pool:
    """Keeps small numbers in use; grows by doubling when all are taken."""

    activities: int
    """Numbers there are."""
    entries: int
    """Places there are."""
    free: list[int] = field(default_factory=list)
    spare: dict[int, list[int]] = field(default_factory=dict)
    """Spans given back, by width: where each begins."""
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of each number in use, where its span begins and how wide it is."""
    top: int = 0
    """Places from here on were never used."""

    def __post_init__(self) -> None:
        self.free.extend(range(self.activities - 1, -1, -1))

    def take(self, count: int) -> tuple[int, int]:
        """Return a number and the first of *count* places for its entries."""
        if not self.free:
            self.free.extend(range(2 * self.activities - 1, self.activities - 1, -1))
            self.activities *= 2
        number, width = self.free.pop(), _width(count)
        if self.spare.get(width):
            first = self.spare[width].pop()
        else:
            first, self.top = self.top, self.top + width
            while self.top > self.entries:
                self.entries *= 2
        self.spans[number] = first, width
        return number, first

    def give(self, number: int) -> None:
        """Take a number and its places back."""
        first, width = self.spans.pop(number)
        self.spare.setdefault(width, []).append(first)
        self.free.append(number)


def _width(count: int) -> int:
    """Round up to a power of two or half as much again, so that spans fit one another.

    >>> [_width(n) for n in (1, 3, 5, 6, 7, 9, 13)]
    [1, 3, 6, 6, 8, 12, 16]
    """
    if count <= 3:
        return count
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power
