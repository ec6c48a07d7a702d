"""Errors that say what is wrong, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


class ClusterSimError(Exception):
    """Base of every error this package raises on purpose; the command line shows it as one line."""


class UnknownNameError(ClusterSimError, LookupError):
    """A name that no registry, catalogue or table knows."""

    def __init__(self, what: str, name: str, known: Iterable[str]):
        self.what, self.name, self.known = what, name, sorted(known)
        super().__init__(f"unknown {what} {name!r}; {choices(name, self.known)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.name, self.known)


class FieldError(ValueError):
    """A mistake that a check over several fields found, pinned to the *path* of one of them."""

    def __init__(self, path: str, message: str):
        self.path = path
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, *self.args)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: the field's path, its place, and the message."""

    path: str
    message: str
    file: str = "<spec>"
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        numbers = [str(n) for n in (self.line, self.column) if n is not None]
        return ": ".join(part for part in (":".join([self.file, *numbers]), self.path, self.message) if part)


class SpecError(ClusterSimError, ValueError):
    """An input that cannot be simulated, with every problem found in it, one line each."""

    def __init__(self, problems: list[Problem]):
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))

    @classmethod
    def of(cls, errors: Iterable[SpecError]) -> SpecError:
        """Return all problems of *errors* as one; what is said of one path in the same words is said once."""
        told = {(p.path, p.message): p for error in reversed(list(errors)) for p in reversed(error.problems)}
        return cls(list(told.values())[::-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class PolicyError(ClusterSimError, RuntimeError):
    """A policy raised, or decided something that its contract forbids."""


class StalledError(ClusterSimError, RuntimeError):
    """Nothing is left to happen, yet work is left: a policy will never choose it."""


def choices(name: str, known: Iterable[str], limit: int = 12) -> str:
    """Say which names are allowed and, where one is close, which was meant.

    >>> choices("chunkd", ["chunked", "static"])
    "allowed: chunked, static (did you mean 'chunked'?)"
    """
    known = list(known)
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    shown = known if len(known) <= limit else get_close_matches(name, known, n=limit, cutoff=0.0)
    more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    return f"allowed: {', '.join(shown)}{more}{hint}"
