"""Serving loads made concrete: a description in, arrays of requests out. No clock, no engine."""

from clustersim.workload.drawing import draw
from clustersim.workload.requests import Blocks, Requests

__all__ = ["Blocks", "Requests", "draw"]
