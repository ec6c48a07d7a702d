"""ServeGen: a folder of clients, each with its rate, burstiness and lengths by time; drawn, not read.

A client's file ``chunk-N-trace.csv`` has a row per window: start in seconds, requests/s, coefficient
of variation, distribution of the gaps (Gamma, Weibull or none), its shape and its scale. Its file
``chunk-N-dataset.json`` has histograms of lengths by (coarser) window.

Why: each window is a stationary renewal process with the window's rate and the fitted shape, and
lengths are drawn independently of each other; ServeGen's own generator instead stretches each
window's gaps to fill it exactly and draws all lengths of a request from one random number.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from clustersim.errors import Problem, SpecError
from clustersim.spec.workload import Trace
from clustersim.workload.arrivals import MOST_REQUESTS, Renewal, unit_times
from clustersim.workload.lengths import choose
from clustersim.workload.purposes import Purposes
from clustersim.workload.readers.raw import Raw
from clustersim.workload.readers.table import wrong

_MODALITIES = ("image", "audio", "video")
_PROCESSES = {"Gamma": "gamma", "Weibull": "weibull", "": "poisson"}


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a client's time with one rate and one shape of gaps."""

    start_s: float
    end_s: float
    rate: float
    renewal: Renewal

    def clipped(self, start_s: float, end_s: float) -> Window:
        """Return the part between two times."""
        return Window(max(self.start_s, start_s), min(self.end_s, end_s), self.rate, self.renewal)

    @property
    def expected(self) -> float:
        """The requests that are expected in it."""
        return max(self.end_s - self.start_s, 0.0) * self.rate


@dataclass(frozen=True)
class Client:
    """One client: its number, its windows, and the file of its lengths."""

    number: int
    windows: tuple[Window, ...]
    lengths_file: Path

    @cached_property
    def histograms(self) -> dict[int, dict[str, str]]:
        """The histograms by the start of their window, those without data left out."""
        try:
            read = json.loads(self.lengths_file.read_text(encoding="utf-8"))
            return {int(k): v for k, v in read.items() if all(len(text) > 2 for text in v.values())}
        except (ValueError, AttributeError):
            raise wrong(self.lengths_file, "is not a JSON object of histograms by window", None) from None

    def histogram(self, start_s: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the values and weights of one quantity in one window."""
        text = self.histograms[start_s].get(name, "")
        try:
            pairs = np.array(re.split(r"[:,]", text.strip("{} ")), dtype=float).reshape(-1, 2)
        except ValueError:
            raise wrong(self.lengths_file, f"{start_s}.{name} is not {{tokens: share, ...}}", None) from None
        return pairs[:, 0].astype(np.int64), pairs[:, 1]


def generate(trace: Trace, purposes: Purposes) -> Raw:
    """Draw the wanted stretch of a folder of clients."""
    if trace.duration is None:
        raise wrong(trace.file, "is drawn, not read: say how much, as in duration: 1 h", None)
    end_s = trace.start + trace.duration
    every = [_within(client, trace.start, end_s) for client in _clients(trace.file)]
    clients = [client for client in every if client.lengths_file.exists() and client.histograms]
    total = sum(window.expected for client in every for window in client.windows)
    expected = sum(window.expected for client in clients for window in client.windows)
    if not expected:
        raise wrong(trace.file, f"no client asks for anything from {trace.start:g} s to {end_s:g} s", None)
    scale = 1.0 if trace.rate is None else trace.rate * trace.duration / expected
    if expected * scale > MOST_REQUESTS:
        raise wrong(
            trace.file, f"{expected * scale:.3g} requests; shorten the duration or lower the rate", None
        )
    drawn = [part for client in clients for part in _of_client(client, scale, purposes)]
    return _joined(drawn, _notes(every, clients, 1 - expected / total, scale))


def _notes(every: list[Client], clients: list[Client], lost: float, scale: float) -> tuple[str, ...]:
    notes = [f"drawn from {len(clients)} ServeGen clients"]
    missing = len(every) - len(clients)
    if missing:
        notes.append(
            f"{missing} of {len(every)} clients have no lengths and were left out ({lost:.1%} of the load)"
        )
    if scale != 1.0:
        notes.append(f"every client's rate was multiplied by {scale:.4g}")
    return tuple(notes)


def _clients(folder: Path) -> Iterator[Client]:
    files = {
        int(m[1]): f for f in folder.glob("chunk-*-trace.csv") if (m := re.match(r"chunk-(\d+)-", f.name))
    }
    if not files:
        raise wrong(folder, "has no chunk-N-trace.csv; give the folder of one model's clients", None)
    for number, file in sorted(files.items()):
        yield Client(number, tuple(_windows(file)), folder / f"chunk-{number}-dataset.json")


def _windows(file: Path) -> list[Window]:
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [(line, row) for line, row in enumerate(csv.reader(stream), 1) if row]
    try:
        read = [(float(r[0]), float(r[1]), Renewal(_PROCESSES[r[3]], float(r[4]) or 1.0)) for line, r in rows]
    except (ValueError, IndexError, KeyError):
        raise _bad_row(file, rows) from None
    starts = [start for start, _, _ in read]
    width = starts[1] - starts[0] if len(starts) > 1 else 600.0
    ends = [*starts[1:], starts[-1] + width] if starts else []
    return [
        Window(s, end, rate, renewal) for (s, rate, renewal), end in zip(read, ends, strict=True) if rate > 0
    ]


def _bad_row(file: Path, rows: list[tuple[int, list[str]]]) -> SpecError:
    line = next(line for line, row in rows if not _readable(row))
    message = "is not start_s,rate,cv,Gamma|Weibull|,shape,scale"
    return SpecError([Problem("", message, str(file), line, 1)])


def _readable(row: list[str]) -> bool:
    try:
        return bool(_PROCESSES[row[3]]) and all(np.isfinite(float(row[i])) for i in (0, 1, 4))
    except (ValueError, IndexError, KeyError):
        return False


def _within(client: Client, start_s: float, end_s: float) -> Client:
    parts = tuple(window.clipped(start_s, end_s) for window in client.windows)
    return Client(client.number, tuple(part for part in parts if part.expected > 0), client.lengths_file)


def _of_client(client: Client, scale: float, purposes: Purposes) -> Iterator[Raw]:
    """Draw one client's requests, one part per window of its histograms."""
    name = ("servegen", client.number)
    arrival_s = _arrivals(client, scale, purposes.rng(*name, "arrivals"))
    known = np.array(sorted(client.histograms))
    begun = known[np.maximum(np.searchsorted(known, arrival_s, side="right") - 1, 0)]
    prompt_rng, output_rng = purposes.rng(*name, "prompt"), purposes.rng(*name, "output")
    for start_s in known:
        times_s = arrival_s[begun == start_s]
        if len(times_s):
            prompt = _prompts(client, int(start_s), prompt_rng, len(times_s))
            output = choose(*client.histogram(int(start_s), "output_tokens"), output_rng, len(times_s))
            tenant = np.full(len(times_s), f"client-{client.number}", dtype=object)
            yield Raw(times_s, np.maximum(prompt, 1), np.maximum(output, 1), tenant)


def _arrivals(client: Client, scale: float, rng: np.random.Generator) -> np.ndarray:
    parts = [
        window.start_s
        + unit_times(window.renewal, rng, None, window.expected * scale) / (window.rate * scale)
        for window in client.windows
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _prompts(client: Client, start_s: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw prompts: tokens of text, or of text and of each image, sound and video in it."""
    if "input_tokens" in client.histograms[start_s]:
        return choose(*client.histogram(start_s, "input_tokens"), rng, count)
    tokens = choose(*client.histogram(start_s, "text_tokens"), rng, count)
    for modality in _MODALITIES:
        parts = choose(*client.histogram(start_s, f"{modality}_count"), rng, count)
        each = choose(*client.histogram(start_s, f"{modality}_tokens"), rng, int(parts.sum()))
        tokens = tokens + np.bincount(np.repeat(np.arange(count), parts), each, count).astype(np.int64)
    return tokens


def _joined(parts: list[Raw], notes: tuple[str, ...]) -> Raw:
    if not parts:
        return Raw(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    arrival_s = np.concatenate([part.arrival_s for part in parts if part.arrival_s is not None])
    joined = Raw(
        arrival_s,
        np.concatenate([part.prompt_tokens for part in parts]),
        np.concatenate([part.output_tokens for part in parts]),
        np.concatenate([part.tenant for part in parts if part.tenant is not None]),
        notes=notes,
    )
    return joined.take(np.argsort(arrival_s, kind="stable"))
