"""Read experiments from YAML, and say where in which file a mistake stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from clustersim.errors import ClusterSimError, FieldError, Problem, SpecError, choices
from clustersim.spec.base import Loader, Spec

FieldPath = tuple[str | int, ...]
S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands; line and column count from one and are absent for ``--set``."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass(slots=True)
class Document:
    """A spec as plain data, with the place of each field and what reading it already found wrong."""

    data: Any = None
    places: dict[FieldPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def load_spec(
    kind: type[S],
    file: str | Path,
    overrides: Mapping[str, Any] | None = None,
    remember: Callable[[S, dict[FieldPath, Place], Path], None] | None = None,
) -> S:
    """Read *file* as a *kind*, apply *overrides* (field path to value), and check the whole.

    *remember* is told the places of the fields, for mistakes that only show later. Raises SpecError,
    which lists every problem at once, each with file, line and column.
    """
    file = Path(file)
    document = read_document(file)
    if not isinstance(document.data, dict) and not document.problems:
        message = "is empty or not a mapping of fields to values"
        document.problems.append(Problem("", message, str(file), 1, 1))
    if document.problems:
        raise SpecError(document.problems)
    for path, value in (overrides or {}).items():
        put(document.data, path, value)
        document.places[_keys(path)] = Place("--set")
    spec = validate(kind, document, file.parent)
    if remember is not None:
        remember(spec, document.places, file.parent)
    return spec


def validate(kind: type[S], document: Document, folder: Path) -> S:
    """Turn a document into a *kind*; raise SpecError with every problem found."""
    try:
        return kind.model_validate(document.data, context={"folder": folder, "needs_units": True})
    except ValidationError as error:
        found = [_problem(e, kind, document) for e in error.errors()]
        raise SpecError(list(dict.fromkeys(found))) from None


def with_fields(spec: S, changes: Mapping[str, Any], folder: Path = Path()) -> S:
    """Return *spec* with some fields, named by path, replaced and everything checked again."""
    document = Document(spec.model_dump())
    for path, value in changes.items():
        put(document.data, path, value)
        document.places[_keys(path)] = Place("sweep")
    try:
        return type(spec).model_validate(document.data, context={"folder": folder})
    except ValidationError as error:
        raise SpecError([_problem(e, type(spec), document) for e in error.errors()]) from None


def read_document(file: Path, at: FieldPath = (), seen: tuple[Path, ...] = ()) -> Document:
    """Read a YAML or JSON file and every file that it names, keeping where each field stands."""
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ClusterSimError(f"{file}: cannot be read: {reason}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise SpecError([Problem("", f"is not YAML: {error.problem}", str(file), line, column)]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem("", f"is not YAML: {error}".split("\n")[0], str(file), 1, 1)]) from None
    document = Document()
    document.data = _build(node, at, file, (*seen, file.resolve()), document)
    return document


def put(data: Any, path: str, value: Any) -> None:
    """Set the field at *path* (``serving.replicas``, ``pools.0.nodes``) of plain data."""
    *parents, last = _keys(path)
    for key in parents:
        if isinstance(data, list):
            data = data[int(key)]
            continue
        if not isinstance(data.setdefault(key, {}), (dict, list)):
            data[key] = {"kind": data[key]}
        data = data[key]
    data[int(last) if isinstance(data, list) else last] = value


def _keys(path: str) -> FieldPath:
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def _build(node: Any, at: FieldPath, file: Path, seen: tuple[Path, ...], document: Document) -> Any:
    """Turn a YAML node into data, noting places and duplicate keys, and reading the files it names."""
    if node is None:
        return None
    if at not in document.places:
        document.places[at] = _place(file, node)
    if isinstance(node, yaml.MappingNode):
        return dict(_items(node, at, file, seen, document))
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*at, i), file, seen, document) for i, child in enumerate(node.value)]
    value = yaml.SafeLoader("").construct_object(node)
    if isinstance(value, str) and value.endswith((".yaml", ".yml", ".json")) and at and at[0] != "sweep":
        return _include(value, node, at, file, seen, document)
    return value


def _items(
    node: Any, at: FieldPath, file: Path, seen: tuple[Path, ...], document: Document
) -> Iterator[tuple[str, Any]]:
    names: set[str] = set()
    for key_node, value_node in node.value:
        key = str(key_node.value)
        document.places[(*at, key)] = _place(file, key_node)
        if key in names:
            document.problems.append(_at(document, (*at, key), "is written twice; keep one"))
        names.add(key)
        yield key, _build(value_node, (*at, key), file, seen, document)


def _include(
    name: str, node: Any, at: FieldPath, file: Path, seen: tuple[Path, ...], document: Document
) -> Any:
    found = next((p for p in (file.parent / name, Path(name)) if p.is_file()), None)
    if found is None:
        document.problems.append(_at(document, at, f"no file {name!r}, neither in {file.parent} nor here"))
        return None
    if found.resolve() in seen:
        document.problems.append(_at(document, at, f"{name!r} names itself"))
        return None
    if found.suffix == ".json":
        return _json(found)
    inner = read_document(found, at, seen)
    document.places |= {k: v for k, v in inner.places.items() if k != at}
    document.problems += inner.problems
    return inner.data


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SpecError(
            [Problem("", f"is not JSON: {error.msg}", str(file), error.lineno, error.colno)]
        ) from None


def _place(file: Path, node: Any) -> Place:
    return Place(str(file), node.start_mark.line + 1, node.start_mark.column + 1)


def place_of(places: Mapping[FieldPath, Place], path: FieldPath) -> Place | None:
    """Return where the field at *path* stands, or the nearest one around it."""
    known = (path[:n] for n in range(len(path), -1, -1) if path[:n] in places)
    return places.get(next(known, ("",)))


def _at(document: Document, path: FieldPath, message: str) -> Problem:
    place = place_of(document.places, path)
    name = ".".join(map(str, path))
    return Problem(name, message, place.file, place.line, place.column) if place else Problem(name, message)


def _problem(error: Any, kind: type[Spec], document: Document) -> Problem:
    path = tuple(key for key in error["loc"] if not str(key).startswith("function-"))
    message = error["msg"].removeprefix("Value error, ")
    cause = (error.get("ctx") or {}).get("error")
    if isinstance(cause, FieldError):
        path = (*path, *_keys(cause.path)) if cause.path else path
    elif error["type"] == "extra_forbidden":
        message = f"no such field; {choices(str(path[-1]), _fields(kind, path[:-1], document.data))}"
    elif error["type"] == "missing":
        message = "is required"
    elif error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {_short(error['input'])}"
    return _at(document, path, message)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields(kind: Any, path: FieldPath, data: Any) -> list[str]:
    """Return the names of the fields that the model at *path* has."""
    for key in path:
        data = _child(data, key)
        if isinstance(key, int):
            continue
        info = getattr(kind, "model_fields", {}).get(key)
        kind = _model(info.annotation if info else None, info.metadata if info else (), data)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _child(data: Any, key: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(key)
    return data[key] if isinstance(data, list) and isinstance(key, int) and key < len(data) else None


def _model(annotation: Any, metadata: Any, data: Any) -> Any:
    """Return the pydantic model that an annotation holds; of a union, the one whose ``kind`` fits."""
    for mark in metadata:
        if hasattr(mark, "class_for"):
            return mark.class_for(data)
    if isinstance(annotation, type):
        return annotation
    parts = [part for part in get_args(annotation) if part is not type(None)]
    models = [m for m in (_model(p, getattr(p, "__metadata__", ()), data) for p in parts) if m is not None]
    wanted = data.get("kind") if isinstance(data, dict) else None
    for model in models:
        info = getattr(model, "model_fields", {}).get("kind")
        if info is not None and wanted in get_args(info.annotation):
            return model
    return next((m for m in models if isinstance(m, type) and issubclass(m, BaseModel)), None)
