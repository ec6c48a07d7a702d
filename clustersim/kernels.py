"""Hot loops: one source, compiled by numba where it is installed, plain Python where it is not.

``NUMBA_DISABLE_JIT=1`` runs the same source without the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]


def kernel(function: F) -> F:
    """Compile *function* (cached on disk) if numba is there; return it as it is otherwise."""
    if numba is None:
        return function
    return numba.njit(cache=True, error_model="numpy")(function)  # type: ignore[no-any-return]
