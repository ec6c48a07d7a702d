"""From a described load to its requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clustersim.errors import Problem, SpecError
from clustersim.rng import Streams
from clustersim.spec.workload import Arrivals, Load, Synthetic, Trace
from clustersim.workload.arrivals import arrival_times
from clustersim.workload.lengths import choose, draw_lengths
from clustersim.workload.purposes import Purposes
from clustersim.workload.replay import replay
from clustersim.workload.requests import Requests


def draw(
    workload: Synthetic | Trace, streams: Streams, max_context: int | None = None, service: str = ""
) -> Requests:
    """Return the requests of a load, drawn or read, in order of arrival.

    Args:
        workload: The description.
        streams: The run's random streams; arrivals, prompts and outputs use one each.
        max_context: Most tokens, prompt and output together, that the model holds.
        service: Keeps the streams of several services of one run apart.

    Raises:
        SpecError: The load cannot be read, is empty, or has requests longer than *max_context*.
    """
    purposes = Purposes(streams, service)
    drawn = _synthetic(workload, purposes) if isinstance(workload, Synthetic) else replay(workload, purposes)
    if not len(drawn):
        raise _wrong("no request is left; lengthen the duration, raise the rate or relax the filters")
    return _fit(_limited(drawn, workload.limit), workload, max_context)


def _synthetic(workload: Synthetic, purposes: Purposes) -> Requests:
    if workload.concurrency is not None:
        arrival_s = np.zeros(workload.requests or 0)
    else:
        arrivals = workload.arrivals or Arrivals(rate=workload.rate)
        arrival_s = arrival_times(arrivals, purposes, workload.requests, workload.duration)
    count = len(arrival_s)
    output = draw_lengths(workload.output, purposes.rng("output"), count)
    return Requests(
        arrival_s=arrival_s,
        prompt_tokens=draw_lengths(workload.prompt, purposes.rng("prompt"), count),
        output_tokens=output,
        limit_tokens=output,
        tenant=_tenants(workload, purposes, count),
    )


def _tenants(workload: Synthetic, purposes: Purposes, count: int) -> list[str] | None:
    if not workload.tenants:
        return None
    names = np.array(list(workload.tenants), dtype=object)
    drawn = choose(names, np.array(list(workload.tenants.values())), purposes.rng("tenant"), count)
    return [str(name) for name in drawn]


def _limited(requests: Requests, limit: int | None) -> Requests:
    """Cut answers at the clients' limit, and note how many."""
    if limit is None:
        return requests
    over = int((requests.output_tokens > limit).sum())
    if not over:
        return requests
    note = f"{over:,} of {len(requests):,} outputs end at the limit of {limit:,} tokens"
    output = np.minimum(requests.output_tokens, limit)
    return replace(requests, output_tokens=output, notes=(*requests.notes, note))


def _fit(requests: Requests, workload: Load, max_context: int | None) -> Requests:
    """Settle requests that exceed the context as the load says, and set what clients allow."""
    if max_context is not None:
        requests = _shortened(requests, workload.too_long, max_context)
        room = max_context - requests.prompt_tokens
    else:
        room = np.full(len(requests), requests.output_tokens.max())
    limit = room if workload.limit is None else np.minimum(room, workload.limit)
    return replace(requests, limit_tokens=np.maximum(limit, requests.output_tokens).astype(np.int64))


def _shortened(requests: Requests, too_long: str, max_context: int) -> Requests:
    excess = requests.prompt_tokens + requests.output_tokens - max_context
    over = excess > 0
    count = int(over.sum())
    if not count:
        return requests
    of = f"{count:,} of {len(requests):,} requests exceed the context of {max_context:,} tokens"
    if too_long == "error":
        first = int(np.argmax(over))
        raise _wrong(
            f"request {first} has {requests.prompt_tokens[first]:,} prompt and "
            f"{requests.output_tokens[first]:,} output tokens, more than the model's context of "
            f"{max_context:,}; {count:,} of {len(requests):,} requests are too long: shorten them, or set "
            "workload.too_long to drop or clip"
        )
    if too_long == "drop":
        if count == len(requests):
            raise _wrong(f"{of}, and too_long: drop leaves none")
        return replace(requests.take(~over), notes=(*requests.notes, f"{of} and were dropped"))
    return _clipped(requests, max_context, f"{of}; their prompts were shortened to fit")


def _clipped(requests: Requests, max_context: int, note: str) -> Requests:
    output = np.minimum(requests.output_tokens, max_context - 1)
    prompt = np.minimum(requests.prompt_tokens, max_context - output)
    return replace(
        requests,
        prompt_tokens=prompt,
        output_tokens=output,
        blocks=None if requests.blocks is None else requests.blocks.shorten(prompt),
        notes=(*requests.notes, note),
    )


def _wrong(message: str) -> SpecError:
    return SpecError([Problem("workload", message)])
