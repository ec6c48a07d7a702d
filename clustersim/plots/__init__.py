"""Figures: every function takes tables and returns a plotly figure; none reads or writes files."""

from clustersim.plots.collectives import busbw
from clustersim.plots.energy import power
from clustersim.plots.latency import itl_cdf, latency_cdf, lengths, overlay
from clustersim.plots.load import arrivals, throughput_goodput, token_rate
from clustersim.plots.replicas import batch_and_queue, breakdown, kv_cache, timeline
from clustersim.plots.sweeps import front, pareto, slo_curve
from clustersim.plots.theme import CONFIG, PALETTE, TEMPLATE

__all__ = [
    "CONFIG",
    "PALETTE",
    "TEMPLATE",
    "arrivals",
    "batch_and_queue",
    "breakdown",
    "busbw",
    "front",
    "itl_cdf",
    "kv_cache",
    "latency_cdf",
    "lengths",
    "overlay",
    "pareto",
    "power",
    "slo_curve",
    "throughput_goodput",
    "timeline",
    "token_rate",
]
