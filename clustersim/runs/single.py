"""One run: simulate, sum up, write it whole or not at all, and find it again while nothing has changed."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clustersim.errors import ClusterSimError
from clustersim.record.writer import write_tables
from clustersim.results.metrics import summary
from clustersim.sim.simulation import simulate
from clustersim.spec.experiment import Experiment

if TYPE_CHECKING:
    from clustersim.results import Run

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_BIG_FILE: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Job:
    """One run to make: an experiment at one point, which repetition, and where its folder goes."""

    experiment: Experiment
    out: Path
    point: Mapping[str, Any]
    replication: int = 0

    def folder(self, key: str) -> Path:
        """Return where the results belong: a readable name, and *key*, a digest of all that makes them."""
        parts = [_slug(_part(path, value)) for path, value in self.point.items()]
        readable = "_".join(parts)[:80].strip("_-") or "run"
        return self.out / self.experiment.name / f"{readable}_r{self.replication}-{key[:8]}"


def run(experiment: Experiment, out: str | Path = "runs", replication: int = 0) -> Run:
    """Simulate *experiment*, unless *out* holds its result already, and return the run.

    Raises what ``simulate`` raises, and ClusterSimError if *out* cannot be written.
    """
    from clustersim.results import Run

    return Run(make(Job(experiment, Path(out), {}, replication))[0])


def make(job: Job) -> tuple[Path, dict[str, Any]]:
    """Make one run, unless it is there already; return its folder and its manifest."""
    key = identity(job.experiment, job.replication)
    folder = job.folder(key)
    manifest_file = folder / "manifest.json"
    if manifest_file.is_file():
        return folder, json.loads(manifest_file.read_text(encoding="utf-8"))
    part = folder.with_name(folder.name + ".part")
    with results_in(folder.parent):
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            manifest = _simulate_into(part, job, key)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except OSError as error:
            raise unwritable(folder, error) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder, manifest


@contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Have *folder* to write to; afterwards take away what was made for it and is still empty.

    Raises ClusterSimError if it cannot be written.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def unwritable(path: Path, error: OSError) -> ClusterSimError:
    """Say that *path* cannot be written, and why."""
    return ClusterSimError(f"{path}: cannot be written: {error.strerror or error}")


def _simulate_into(folder: Path, job: Job, key: str) -> dict[str, Any]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    outcome = simulate(job.experiment, job.replication)
    spent = {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}
    manifest = {
        "name": job.experiment.name,
        "status": "ok",
        "experiment": plain(job.experiment),
        "point": _plain_value(job.point),
        "seed": job.experiment.seed,
        "replication": job.replication,
        **outcome.facts,
        **spent,
        "versions": _versions(),
        "commit": _commit(),
        "identity": key,
    }
    manifest["summary"] = summary(outcome.tables, manifest)
    kept = dict(outcome.tables)
    if job.experiment.record.iterations == "off":
        kept = {name: columns for name, columns in kept.items() if name not in ("iterations", "token_gaps")}
    write_tables(folder, kept)
    text = json.dumps(manifest, indent=2, default=str)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def identity(experiment: Experiment, replication: int = 0) -> str:
    """Return a digest of everything that makes a run's result: spec, repetition, code, policies, files."""
    spec = json.dumps([plain(experiment), replication], sort_keys=True, default=str)
    parts = [spec.encode(), _code().encode()]
    sources = {policy.source for policy in experiment.serving.policies() if policy.source is not None}
    parts += [file.read_bytes() for file in sorted(sources)]
    parts += [_file_mark(file) for file in sorted(_files_of(experiment))]
    return blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def plain(experiment: Experiment) -> dict[str, Any]:
    """Return the resolved spec as plain data, without the sweep."""
    return experiment.model_dump(mode="json", exclude={"sweep"})


def _plain_value(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _files_of(experiment: Experiment) -> set[Path]:
    """Return the data files that the spec names: traces, tables of lengths, measured times."""
    found: set[Path] = set()

    def visit(value: Any) -> None:
        if isinstance(value, Mapping):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)
        elif isinstance(value, Path) and value.is_file():
            found.add(value)

    visit(experiment.model_dump(exclude={"sweep"}))
    return found


def _file_mark(file: Path) -> bytes:
    """Return the content of a file, or of a very large one its size and time of change."""
    stat = file.stat()
    if stat.st_size > _BIG_FILE:
        return f"{file}:{stat.st_size}:{stat.st_mtime_ns}".encode()
    return blake2b(file.read_bytes()).digest()


@cache
def _code() -> str:
    """Digest our own code and cards: an edited engine never returns yesterday's numbers."""
    roots = [_PACKAGE, *(_PACKAGE.parent / name for name in ("topologies", "workloads"))]
    digest = blake2b(digest_size=16)
    for root in roots:
        for file in sorted(root.rglob("*.py")) + sorted(root.rglob("*.yaml")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str]:
    names = ("clustersim", "simpy", "numpy", "numba", "pyarrow", "pydantic")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


@cache
def _commit() -> str | None:
    """Return the commit of a checkout, marked where it was changed; None for an installed package."""
    if not (_PACKAGE.parent / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(_PACKAGE.parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit or None


def _part(path: str, value: Any) -> str:
    """Return a point's value as part of a folder's name: a policy's kind, or a number with its field."""
    plain_number = not isinstance(value, (str, Mapping)) or str(value)[:1].isdigit()
    return f"{path.rpartition('.')[2]}-{_word(value)}" if plain_number else _word(value)


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join(str(v) if k == "kind" else f"{k}-{_word(v)}" for k, v in value.items())
    return str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.replace("/s", "")).strip("-.")
