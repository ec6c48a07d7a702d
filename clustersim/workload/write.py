"""Write requests as a trace of our own schema, so that a drawn load can be kept and shared."""

from __future__ import annotations

import gzip
from pathlib import Path

from clustersim.workload.requests import Requests


def as_csv(requests: Requests) -> str:
    """Return requests as CSV text: arrival_s (to the microsecond), prompt_tokens, output_tokens[, tenant].

    >>> import numpy as np
    >>> one = np.array([1])
    >>> as_csv(Requests(np.array([0.25]), 900 * one, 80 * one, 80 * one)).split()
    ['arrival_s,prompt_tokens,output_tokens', '0.250000,900,80']
    """
    columns = [requests.prompt_tokens.tolist(), requests.output_tokens.tolist()]
    names = ["arrival_s", "prompt_tokens", "output_tokens"]
    if requests.tenant is not None:
        names, columns = [*names, "tenant"], [*columns, requests.tenant]
    rows = zip([f"{t:.6f}" for t in requests.arrival_s.tolist()], *columns, strict=True)
    return "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows), ""])


def write_csv(requests: Requests, file: Path) -> None:
    """Write requests to a ``.csv`` or ``.csv.gz`` file; the same requests give the same bytes."""
    data = as_csv(requests).encode()
    file.write_bytes(gzip.compress(data, 9, mtime=0) if file.suffix == ".gz" else data)
