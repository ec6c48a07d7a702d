"""Executors beyond the standard library's: a pool of fresh processes, and Ray."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context
from threading import Thread
from typing import Any

from clustersim.errors import ClusterSimError


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of *count* processes, started fresh so that none inherits this one's threads."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_leave_quietly)


def interrupt_all() -> None:
    """Interrupt the processes that this one started; what they were at is taken away."""
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGINT)


def _leave_quietly() -> None:
    """Let an interruption end a worker, which cleans up, without a traceback and only once."""

    def leave(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(130)

    signal.signal(signal.SIGINT, leave)


class RayExecutor(Executor):
    """Submits calls as Ray tasks; Ray has no executor of its own that keeps the standard contract.

    Raises ClusterSimError if Ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray
        except ImportError:
            raise ClusterSimError("Ray is not installed; pip install 'clustersim[ray]'") from None
        self._ray = ray
        if not ray.is_initialized():
            ray.init(**options)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        task = self._ray.remote(fn).remote(*args, **kwargs)
        future.set_running_or_notify_cancel()
        Thread(target=self._wait, args=(task, future), daemon=True).start()
        return future

    def _wait(self, task: Any, future: Future[Any]) -> None:
        try:
            future.set_result(self._ray.get(task))
        except Exception as error:
            future.set_exception(error)
