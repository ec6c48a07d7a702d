"""Run experiments: one, or every point of a sweep; finished points are never run twice."""

from importlib import import_module
from typing import Any

_HOMES = {
    "RayExecutor": "executors",
    "identity": "single",
    "processes": "executors",
    "run": "single",
    "sweep": "sweeping",
    "table": "sweeping",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"clustersim.runs.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'clustersim.runs' has no attribute {name!r}")
