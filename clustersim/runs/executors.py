"""Executors beyond the standard library's: a pool of fresh processes, and Ray."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from threading import Thread
from typing import Any

from clustersim.errors import ClusterSimError


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of *count* processes, started fresh so that none inherits this one's threads."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


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
