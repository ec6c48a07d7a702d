"""Simulate AI datacenters: accelerators, networks and schedulers under training and serving load."""

from importlib import import_module
from typing import Any

_HOMES = {
    "load": "spec.experiment",
    "Experiment": "spec.experiment",
    "run": "runs",
    "sweep": "runs",
    "table": "runs",
    "Run": "results",
    "Sweep": "results",
    "ClusterSimError": "errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"clustersim.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'clustersim' has no attribute {name!r}")
