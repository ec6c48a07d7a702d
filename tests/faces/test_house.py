"""The rules of the house: floors, sizes, words, units; kept by looking at the code itself."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import TypeAdapter, ValidationError

from clustersim.policies import Admission, ArrivalShape, BatchingPolicy, Router
from clustersim.policies.registry import find, names
from clustersim.record.summary import METRICS
from clustersim.record.tables import TABLES
from clustersim.rng import Streams
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.base import Spec, load_card
from clustersim.spec.catalogue import FOLDERS, catalogue
from clustersim.spec.efficiency import load_efficiency
from clustersim.spec.experiment import Experiment
from clustersim.spec.model import Model
from clustersim.spec.node import Node
from clustersim.spec.stack import load_stack
from clustersim.spec.workload import load_workload
from clustersim.units import DIMENSIONS, Unit, parse
from clustersim.workload import draw

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clustersim"
MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in MODULES}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Yield every function of the package with its place."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node


def body_lines(function: Function) -> int:
    """Return the lines of a function's body, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


# Floors


def test_a_module_imports_only_from_the_floors_below() -> None:
    pytest.importorskip(
        "importlinter", reason="import-linter is not installed; pip install 'clustersim[dev]'"
    )
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


# Sizes


def test_functions_are_short() -> None:
    sizes = {place: body_lines(function) for place, function in functions()}
    long = {place: lines for place, lines in sizes.items() if lines > 60}
    assert not long
    assert statistics.quantiles(sizes.values(), n=10)[-1] <= 20


def test_functions_take_few_parameters() -> None:
    counts = [
        len(
            [
                a
                for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)
                if a.arg not in ("self", "cls")
            ]
        )
        for _, f in functions()
    ]
    assert sum(count > 6 for count in counts) / len(counts) < 0.03


def test_files_are_short() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in MODULES
    }
    assert not {file: lines for file, lines in lengths.items() if lines > 500}


# Words


def documented() -> Iterator[tuple[str, bool]]:
    """Yield every public module, class and function, and whether it says what it is."""
    for file, tree in TREES.items():
        place = str(file.relative_to(ROOT))
        yield place, ast.get_docstring(tree) is not None
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not node.name.startswith("_"):
                yield f"{place}:{node.lineno} {node.name}", ast.get_docstring(node) is not None


def test_public_things_say_what_they_are() -> None:
    said = dict(documented())
    silent = [place for place, has in said.items() if not has]
    assert len(silent) <= 0.1 * len(said), silent
    assert not [place for place in silent if ":" not in place]


def test_everything_is_annotated() -> None:
    bare = []
    for place, function in functions():
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        wanted = [a for n, a in enumerate(arguments) if not (n == 0 and a.arg in ("self", "cls"))]
        silent = function.returns is None and function.name != "__init__"
        if silent or any(argument.annotation is None for argument in wanted):
            bare.append(place)
    assert not bare


def test_comments_are_rare_and_nothing_is_left_to_do() -> None:
    lines = [line for file in MODULES for line in file.read_text(encoding="utf-8").splitlines()]
    comments = [line for line in lines if line.lstrip().startswith("#")]
    assert len(comments) < 0.06 * len(lines)
    assert not [line for line in lines if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line)]


def test_nothing_prints_asserts_input_or_draws_from_a_global_stream() -> None:
    found = []
    for file, tree in TREES.items():
        place = file.relative_to(ROOT)
        for line, name in calls(tree):
            legacy = re.fullmatch(
                r"(np|numpy)\.random\.(?!default_rng|SeedSequence|Generator|PCG64)\w+", name
            )
            if name == "print" or legacy or re.fullmatch(r"random\.\w+", name):
                found.append(f"{place}:{line} {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert) and not _narrows(node.test):
                found.append(f"{place}:{node.lineno} assert {ast.unparse(node.test)}")
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                found.append(f"{place}:{node.lineno} import *")
    assert not found


def _narrows(test: ast.expr) -> bool:
    """Say whether an assertion only tells the type checker what a validator has made sure of."""
    return ast.unparse(test).endswith(" is not None") or ast.unparse(test).startswith("isinstance(")


def test_no_module_changes_state_of_its_own() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
    ]
    assert not found


def test_no_tracked_file_names_this_machine_or_is_a_copy_of_measured_data() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there is no list of tracked files")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    files = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    paths = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "/ho" + r"me/\w+/", r"/tm" + r"p/\w"]))
    assert len(files) > 100
    named = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_bytes().decode("utf-8", errors="ignore").splitlines()
        if file.suffix not in (".gz", ".png", ".parquet") and paths.search(line)
    ]
    assert not named
    data = ROOT.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the measured data are not beside this repository")
    sizes = {
        file.stat().st_size: file for file in data.rglob("*") if file.is_file() and file.stat().st_size > 200
    }
    twins = [
        f
        for f in files
        if f.stat().st_size in sizes and f.read_bytes() == sizes[f.stat().st_size].read_bytes()
    ]
    assert not twins


# Units


PLAIN = {
    *("request", "requests", "finished", "rejected", "preemptions", "waiting", "count", "kv_blocks"),
    *("sequences", "decode_sequences", "fresh_sequences", "batch_mean_sequences", "accelerators", "nodes"),
    *("replica", "job", "node", "tenant", "name", "queue", "user", "status", "domain"),
    *("kind", "subject", "detail", "reason", "link", "tier", "flows", "bytes"),
}
"""Names that count or name things, and so need no unit."""
UNITS = re.compile(r"(?:^|_)(s|w|j|bytes|tokens|share|per_s|j_per_token|per_accelerator|per_hour)$")


@pytest.mark.parametrize("table", TABLES)
def test_every_column_says_what_it_means_and_its_unit(table: str) -> None:
    for column in TABLES[table].columns:
        assert len(column.doc) > 3, column
        assert column.doc.endswith("."), column
        if column.dtype.startswith("float"):
            assert UNITS.search(column.name) or column.name == "flows", column
        assert UNITS.search(column.name) or column.name in PLAIN, column


def test_every_metric_says_what_it_means_and_its_unit() -> None:
    for metric in METRICS:
        assert metric.doc.endswith("."), metric
        assert UNITS.search(metric.name) or metric.name in PLAIN, metric


def quantities() -> dict[str, Any]:
    """Return the type of every field with a unit that an experiment or an installed policy has."""
    specs = {cls.__name__: cls for cls in _below(Spec) if cls.__module__.startswith("clustersim.spec")}
    classes = [specs[name] for name in ("Experiment", *Experiment.model_json_schema()["$defs"])]
    for base in (BatchingPolicy, Router, Admission, ArrivalShape):
        classes += [find(base, name) for name in names(base)]
    fields = {f"{c.__name__}.{n}": i.rebuild_annotation() for c in classes for n, i in c.model_fields.items()}
    return {name: _value_of(annotation) for name, annotation in fields.items() if _has_unit(annotation)}


def _value_of(annotation: Any) -> Any:
    """Return the type of the values, where a field is a mapping."""
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_args(bare)[1] if get_origin(bare) is dict else annotation


def _has_unit(annotation: Any) -> bool:
    parts = (*getattr(annotation, "__metadata__", ()), *get_args(annotation))
    return isinstance(annotation, Unit) or any(map(_has_unit, parts))


def _below(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


QUANTITIES = quantities()


@pytest.mark.parametrize("name", QUANTITIES)
def test_every_quantity_of_a_file_needs_its_unit(name: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(QUANTITIES[name])
    with pytest.raises(ValidationError, match=r"7 needs a unit, for example '(.*)'") as caught:
        adapter.validate_python(7, context={"needs_units": True})
    (example,) = re.findall(r"for example '(.*)'", caught.value.errors()[0]["msg"])
    assert adapter.validate_python(example, context={"needs_units": True}) == _si(example)


def _si(text: str) -> float:
    """Return a quantity in its base unit, whatever its dimension."""
    for dimension in DIMENSIONS:
        with suppress(ValueError):
            return parse(text, dimension)
    raise ValueError(text)


# The catalogue


READERS: dict[str, Callable[[str], Any]] = {
    "accelerators": lambda name: load_card(Accelerator, FOLDERS["accelerators"], name),
    "nodes": lambda name: load_card(Node, FOLDERS["nodes"], name),
    "stacks": load_stack,
    "models": lambda name: load_card(Model, FOLDERS["models"], name),
    "efficiency": load_efficiency,
    "serving": load_workload,
}
"""How cards become objects, for the kinds of which there are cards."""


def cards() -> list[tuple[str, str]]:
    """Return kind and name of every card of the catalogue."""
    return [(entry.kind, entry.name) for entry in catalogue()]


def test_the_catalogue_holds_cards_of_every_kind_that_a_spec_can_name() -> None:
    assert READERS.keys() <= {kind for kind, _ in cards()}


@pytest.mark.parametrize("kind", READERS)
def test_every_card_is_read(kind: str) -> None:
    found = [READERS[kind](name) for each, name in cards() if each == kind]
    assert len(found) >= 5
    if kind == "serving":
        assert all(len(draw(load, Streams(0))) > 0 for load in found)
