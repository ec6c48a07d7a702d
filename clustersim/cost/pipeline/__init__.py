"""Exact time lines of pipeline schedules: who computes what when, the bubble, and what is held in memory."""

from clustersim.cost.pipeline.closed import period_s
from clustersim.cost.pipeline.layers import split_layers
from clustersim.cost.pipeline.orders import Order, Size, custom, order, order_for
from clustersim.cost.pipeline.schedules import SCHEDULES, Schedule, ScheduleError, find
from clustersim.cost.pipeline.timelines import (
    Estimates,
    Plan,
    Timeline,
    evaluate,
    peak_activations,
    peak_units,
    run,
    timeline,
)
from clustersim.cost.pipeline.times import StageTimes

__all__ = [
    "SCHEDULES",
    "Estimates",
    "Order",
    "Plan",
    "Schedule",
    "ScheduleError",
    "Size",
    "StageTimes",
    "Timeline",
    "custom",
    "evaluate",
    "find",
    "order",
    "order_for",
    "peak_activations",
    "peak_units",
    "period_s",
    "run",
    "split_layers",
    "timeline",
]
