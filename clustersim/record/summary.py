"""The summary of a run: every key's label, unit and meaning, and which way is better. Pure data.

``results.metrics.summary`` fills these keys; the index of a sweep has one column for each; axis titles,
``clustersim show metrics`` and the manual are made from this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True, slots=True)
class Metric:
    """A key of the summary: *unit* is SI, *better* is empty where neither way is."""

    name: str
    label: str
    unit: str
    better: Better
    doc: str

    @property
    def title(self) -> str:
        """The label with its unit, for axes and table heads."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


_WAITS: Final = (
    ("ttft", "TTFT", "time from arrival to the first output token, finished requests"),
    (
        "tpot",
        "TPOT",
        "time per output token after the first, by request: (finish - first token) / (output - 1)",
    ),
    ("itl", "ITL", "time between successive tokens of a sequence, over all tokens"),
    ("e2e", "E2E", "time from arrival to the last output token, finished requests"),
    ("queue", "Queueing", "time from arrival to the first scheduled token, finished requests"),
)
_STATISTICS: Final = (
    ("mean", "Mean"),
    ("p50", "Median"),
    ("p90", "90th percentile"),
    ("p99", "99th percentile"),
)


def _waits() -> Iterator[Metric]:
    for name, label, doc in _WAITS:
        for statistic, word in _STATISTICS:
            yield Metric(f"{name}_{statistic}_s", f"{label} {statistic}", "s", "lower", f"{word} {doc}.")


METRICS: Final[tuple[Metric, ...]] = (
    Metric("requests", "Requests", "", "", "Requests that arrived."),
    Metric("finished", "Finished", "", "higher", "Requests that got all their tokens."),
    Metric("rejected", "Rejected", "", "lower", "Requests that were rejected or dropped."),
    Metric("duration_s", "Duration", "s", "", "From the first arrival to the last finish."),
    Metric(
        "request_rate_per_s",
        "Offered load",
        "requests/s",
        "",
        "Arrivals per second between the first and the last arrival.",
    ),
    Metric(
        "throughput_requests_per_s",
        "Finished requests",
        "requests/s",
        "higher",
        "Finished requests per second of the duration.",
    ),
    Metric(
        "throughput_tokens_per_s",
        "Throughput",
        "tokens/s",
        "higher",
        "Output tokens of finished requests per second of the duration.",
    ),
    Metric(
        "throughput_tokens_per_s_per_accelerator",
        "Throughput per accelerator",
        "tokens/s",
        "higher",
        "Output tokens of finished requests per second of the duration and accelerator.",
    ),
    Metric(
        "total_tokens_per_s",
        "Prompt and output tokens",
        "tokens/s",
        "higher",
        "Prompt and output tokens of finished requests per second of the duration.",
    ),
    *_waits(),
    Metric(
        "goodput_requests_per_s",
        "Goodput",
        "requests/s",
        "higher",
        "Finished requests within every limit of the SLO per second of the duration; empty without an SLO.",
    ),
    Metric(
        "slo_attainment_share",
        "SLO attainment",
        "share",
        "higher",
        "Share of all requests, the rejected included, within every limit of the SLO; empty without an SLO.",
    ),
    Metric(
        "batch_mean_sequences",
        "Mean batch",
        "sequences",
        "",
        "Sequences that a forward pass advanced by a token, mean over passes.",
    ),
    Metric(
        "busy_share",
        "Busy",
        "share",
        "",
        "Share of the replicas' time, from the first arrival to the last finish, spent in forward passes.",
    ),
    Metric(
        "kv_peak_share",
        "KV cache peak",
        "share",
        "",
        "Largest share of one replica's key-value blocks in use at the end of a stretch of passes.",
    ),
    Metric("preemptions", "Preemptions", "", "lower", "How often requests were preempted, in all."),
    Metric(
        "energy_j",
        "Energy",
        "J",
        "lower",
        "Energy of the accelerator boards over the metered time, idling included.",
    ),
    Metric(
        "energy_j_per_token",
        "Energy per output token",
        "J",
        "lower",
        "Energy divided by the output tokens of finished requests.",
    ),
    Metric(
        "mean_power_w",
        "Mean power",
        "W",
        "",
        "Energy divided by the metered time, all accelerator boards together.",
    ),
)
"""Every key of a summary, in the order in which it is shown."""

BY_NAME: Final = {metric.name: metric for metric in METRICS}


def title(name: str) -> str:
    """Return the label and unit of a metric, or *name* itself where it is a swept field.

    >>> title("ttft_p99_s")
    'TTFT p99 (s)'
    """
    return BY_NAME[name].title if name in BY_NAME else name
