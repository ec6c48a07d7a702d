"""Hot loops: one source, compiled by numba where it is installed, plain Python where it is not.

``NUMBA_DISABLE_JIT=1`` runs the same source without the compiler. What is compiled is kept on disk,
in a folder named after the source of all kernels: numba itself looks only at the file of the function
that Python calls, and would go on using old versions of those that it calls in turn.

Kernels work on arrays that Python owns and make none, so reference counting is left out (``_nrt``):
it took four fifths of the time of the serving core.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

numba: Any = None
with suppress(ImportError):
    import numba

_MARKS: Final = (b"\n@kernel", b"\n@entry")


def kernel(function: F) -> F:
    """Compile *function* for other kernels to call; return it as it is where numba is not installed."""
    if numba is None:
        return function
    compiled: F = numba.njit(error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(
        function
    )
    return compiled


def entry(function: F) -> F:
    """Compile *function*, which Python calls, and keep the result on disk for the next process."""
    if numba is None:
        return function
    folder = cache_folder()
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder or "")
    try:
        compiled: F = numba.njit(cache=folder is not None, error_model="numpy", _nrt=False)(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


def cache_folder() -> Path | None:
    """Return where compiled kernels of this source are kept; None if no such folder can be written."""
    home = os.environ.get("CLUSTERSIM_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(home).expanduser() / "clustersim" / f"kernels-{_digest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _digest(known: list[str] = []) -> str:  # noqa: B006  (computed once a process)
    """Digest the folders that hold kernels, whole: their constants are compiled in as well."""
    if not known:
        here = Path(__file__).parent
        content = {file: file.read_bytes() for file in sorted(here.rglob("*.py"))}
        folders = {file.parent for file, text in content.items() if any(mark in text for mark in _MARKS)}
        hashed = [text for file, text in content.items() if file.parent in folders or file.parent == here]
        known.append(blake2b(b"".join(hashed), digest_size=8).hexdigest())
    return known[0]
