"""Runs read back: tables, summaries, comparisons."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Comparison": "comparison",
    "Run": "run",
    "Sweep": "sweep",
    "answer": "headline",
    "compare": "comparison",
    "open_results": "sweep",
    "summary": "metrics",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"clustersim.results.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'clustersim.results' has no attribute {name!r}")
