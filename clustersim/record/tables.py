"""The result tables: every column's type, unit and meaning, written once.

Parquet schemas, the manual page and the readers are made from this module. Pure data, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name ends in its unit; *dtype* is a numpy or Arrow name."""

    name: str
    dtype: str
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what one row is, and the columns."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(column.name for column in self.columns)


def _table(name: str, row: str, *columns: tuple[str, str, str]) -> Table:
    return Table(name, row, tuple(Column(*column) for column in columns))


REQUESTS: Final = _table(
    "requests",
    "a request, in order of arrival",
    ("request", "int64", "Number of the request, from 0, in order of arrival."),
    ("replica", "int32", "The replica that served it; -1 if none did."),
    ("arrival_s", "float64", "When it reached the service."),
    ("admitted_s", "float64", "When its first token was scheduled: the end of its queueing."),
    ("first_token_s", "float64", "When its first output token was ready."),
    ("finish_s", "float64", "When its last output token was ready."),
    ("prompt_tokens", "int64", "Tokens of the prompt."),
    ("output_tokens", "int64", "Tokens generated."),
    ("cached_tokens", "int64", "Prompt tokens found in a prefix cache and not computed."),
    ("preemptions", "int32", "How often it was preempted."),
    ("tenant", "string", "Who sent it; empty if the workload names no tenants."),
    ("status", "string", "finished, rejected or dropped."),
)

ITERATIONS: Final = _table(
    "iterations",
    "a stretch of consecutive forward passes of one replica with one batch",
    ("replica", "int32", "The replica."),
    ("start_s", "float64", "When the first pass of the stretch began."),
    ("duration_s", "float64", "How long all passes of the stretch took."),
    ("count", "int32", "How many passes."),
    ("step_s", "float64", "How long the first of them took."),
    ("growth_s", "float64", "By how much each pass took longer than the one before."),
    ("prefill_tokens", "int32", "Prompt tokens computed in the stretch (recomputed ones included)."),
    ("decode_sequences", "int32", "Sequences that each pass advanced by one token."),
    ("fresh_sequences", "int32", "Of these, how many had their previous token exactly one pass ago."),
    ("context_tokens", "int64", "Tokens in the caches of the decoding sequences when the stretch began."),
    ("waiting", "int32", "Requests that waited at the replica when the stretch began."),
    ("kv_blocks", "int32", "Blocks of key-value cache in use at the end of the stretch."),
    ("compute_s", "float32", "Of the duration, the part bound by arithmetic."),
    ("memory_s", "float32", "Of the duration, the part bound by memory bandwidth."),
    ("network_s", "float32", "Of the duration, the part spent in collectives and transfers."),
    ("overhead_s", "float32", "Of the duration, the part of launches, scheduling and sampling."),
    ("energy_j", "float32", "Energy that the replica's accelerators drew in the stretch (board scope)."),
)

TOKEN_GAPS: Final = _table(
    "token_gaps",
    "sequences whose next token came later than one pass after the last: stalled by prefills, or preempted",
    ("replica", "int32", "The replica."),
    ("end_s", "float64", "When the late token was ready."),
    ("gap_s", "float64", "Time since the token before it."),
    ("sequences", "int64", "How many sequences waited so long."),
)

POWER: Final = _table(
    "power",
    "the mean power of one domain over one time bin; the integral over a bin is exact",
    ("domain", "string", "What draws it, such as 'replica 0'."),
    ("start_s", "float64", "Start of the bin."),
    ("duration_s", "float64", "Length of the bin."),
    ("power_w", "float64", "Mean power over the bin (accelerator boards)."),
)

EVENTS: Final = _table(
    "events",
    "anything discrete that is not in another table",
    ("t_s", "float64", "When."),
    ("kind", "string", "preempt, swap_out, swap_in, reject, drop."),
    ("subject", "string", "Whom it happened to, such as 'request 17'."),
    ("detail", "string", "JSON with what else there is to say."),
)

JOBS: Final = _table(
    "jobs",
    "a job of a shared cluster, in order of submission",
    ("job", "int64", "Number of the job, from 0, in order of submission."),
    ("name", "string", "Its name in the trace."),
    ("queue", "string", "Its virtual cluster or tenant; empty if there is none."),
    ("user", "string", "Who submitted it; empty if nobody says."),
    ("accelerators", "int32", "Accelerators it asks for."),
    ("submit_s", "float64", "When it was submitted."),
    ("start_s", "float64", "When it first started; -1 if it never did."),
    ("finish_s", "float64", "When it ended or was withdrawn."),
    ("wait_s", "float64", "How long it waited in all, before its start and while preempted."),
    ("run_s", "float64", "How long it ran in all."),
    ("service_s", "float64", "Accelerator-seconds that it held."),
    ("preemptions", "int32", "How often it was stopped to make room."),
    ("nodes", "int32", "On how many nodes it last ran."),
    ("status", "string", "finished, failed or cancelled as the trace has it; timed out, or withdrawn."),
)

JOB_WAITS: Final = _table(
    "job_waits",
    "how long one job waited for one reason; the durations of a job add up to its wait",
    ("job", "int64", "The job."),
    ("reason", "string", "quota, drained, busy, gang, fragmentation, order or round."),
    ("duration_s", "float64", "How long it waited for that reason."),
)

JOB_SPANS: Final = _table(
    "job_spans",
    "a stretch of one job on one node",
    ("job", "int64", "The job."),
    ("node", "int32", "The node, numbered over the whole cluster."),
    ("start_s", "float64", "When the stretch began."),
    ("duration_s", "float64", "How long it lasted."),
    ("accelerators", "int32", "Accelerators of the node that the job held."),
)

LINKS: Final = _table(
    "links",
    "one link over a bin of time, or over a stretch of equal load; only where it carried something",
    ("link", "int32", "The link, numbered as in the topology; bundles of links follow the links."),
    ("name", "string", "From where to where it leads, such as 'leaf 3 > spine 1'; or the bundle."),
    ("tier", "string", "The tier of links that it belongs to."),
    ("start_s", "float64", "When the bin or stretch began."),
    ("duration_s", "float64", "How long it was."),
    ("bytes", "float64", "Bytes that the link carried in it."),
    ("utilization_share", "float64", "Those bytes as a share of what the link can carry in that time."),
    ("flows", "float64", "How many messages used it, on average over the time."),
)

TABLES: Final = {
    table.name: table
    for table in (REQUESTS, ITERATIONS, TOKEN_GAPS, POWER, EVENTS, JOBS, JOB_WAITS, JOB_SPANS, LINKS)
}
