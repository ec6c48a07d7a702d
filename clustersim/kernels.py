"""Hot loops: one source, compiled by numba where it is installed, plain Python where it is not.

``NUMBA_DISABLE_JIT=1`` runs the same source without the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

numba: Any = None
with suppress(ImportError):
    import numba


def kernel(function: F) -> F:
    """Compile *function* for other kernels to call; return it as it is where numba is not installed."""
    if numba is None:
        return function
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled: F = numba.njit(error_model="numpy", **options)(function)
    return compiled


def entry(function: F) -> F:
    """Compile *function*, which Python calls, and keep the result on disk for the next process."""
    if numba is None:
        return function
    compiled: F = numba.njit(cache=True, error_model="numpy")(function)
    return compiled
