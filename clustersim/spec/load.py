"""Read experiments from YAML, and say where in which file a mistake stands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from clustersim.errors import FieldError, Problem, SpecError, choices
from clustersim.policies.registry import by_name
from clustersim.spec.base import Loader, Spec

FieldPath = tuple[str | int, ...]
S = TypeVar("S", bound=Spec)

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_DEEPEST: Final = 40


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
    folder: Path = Path()
    """Where the files that it names are looked for first; then here."""


def load_spec(
    kind: type[S],
    file: str | Path,
    overrides: Mapping[str, Any] | None = None,
    remember: Callable[[S, Document], None] | None = None,
) -> S:
    """Read *file* as a *kind*, apply *overrides* (field path to value), and check the whole.

    *remember* is told the document, for mistakes that only show later. Raises SpecError, which lists
    every problem at once, each with file, line and column.
    """
    file = Path(file)
    document = read_document(file)
    if not isinstance(document.data, dict):
        message = "is empty or not a mapping of fields to values"
        raise SpecError(document.problems or [Problem("", message, str(file), 1, 1)])
    for path, value in (overrides or {}).items():
        put(document, path, value, Place("--set"))
    spec = validate(kind, document)
    if remember is not None:
        remember(spec, document)
    return spec


def validate(kind: type[S], document: Document, *, needs_units: bool = True) -> S:
    """Turn a document into a *kind*; raise SpecError with every problem found."""
    found = list(document.problems)
    try:
        context = {"folder": document.folder, "needs_units": needs_units}
        spec = kind.model_validate(document.data, context=context)
    except ValidationError as error:
        told = {problem.path for problem in found}
        found += [p for p in (_problem(e, kind, document) for e in error.errors()) if p.path not in told]
    if found:
        raise SpecError(sorted(dict.fromkeys(found), key=lambda p: (p.file, p.line or 0, p.column or 0)))
    return spec


def read_document(file: Path, at: FieldPath = (), seen: tuple[Path, ...] = ()) -> Document:
    """Read a YAML or JSON file and every file that it names, keeping where each field stands.

    Raises SpecError for a file that cannot be read; what else is wrong is among the document's problems.
    """
    text = _text(file, at)
    document = Document(folder=file.parent)
    if at and file.suffix == ".json":
        document.data = _json(file, text, at)
        with suppress(SpecError):
            _note_places(_compose(file, text, at), at, file, document)
        return document
    document.data = _build(_compose(file, text, at), at, file, (*seen, file.resolve()), document)
    return document


def put(document: Document, path: str, value: Any, place: Place) -> None:
    """Set the field at *path* (``serving.replicas``, ``pools.0.nodes``), as *place* asks for it.

    Where a name stood, a field below it changes what the name stands for: ``chunked`` becomes
    ``{kind: chunked, token_budget: 512}``. Raises SpecError for an entry that a list lacks.
    """
    data, at = document.data, FieldPath()
    *parents, last = keys_of(path)
    for key in parents:
        at = (*at, key if isinstance(data, list) else str(key))
        inner = _child(data, key)
        if not isinstance(inner, (dict, list)):
            inner = {"kind": inner} if isinstance(inner, str) else {}
            _set(document, data, at, inner)
            document.places.setdefault(at, place)
        data = inner
    at = (*at, last if isinstance(data, list) else str(last))
    for known in [known for known in document.places if known[: len(at)] == at]:
        del document.places[known]
    document.places[at] = place
    _set(document, data, at, value if at[0] == "sweep" else _with_files(value, at, document))


def value_of(text: str) -> Any:
    """Return what *text* says as YAML; raise SpecError if it is none. Files that it names are not read."""
    document = Document()
    document.data = _build(_compose(Path("value"), text, ()), ("sweep",), Path("value"), (), document)
    if document.problems:
        raise SpecError(document.problems)
    return document.data


def keys_of(path: str) -> FieldPath:
    """Return the parts of a field path; an axis of the sweep is one part, whatever dots it has.

    >>> keys_of("pools.0.nodes"), keys_of("sweep.workload.rate")
    (('pools', 0, 'nodes'), ('sweep', 'workload.rate'))
    """
    first, _, rest = path.partition(".")
    if first == "sweep" and rest:
        return first, rest
    return tuple(int(part) if part.isdecimal() else part for part in path.split("."))


def place_of(places: Mapping[FieldPath, Place], path: FieldPath) -> Place | None:
    """Return where the field at *path* stands, or the nearest one around it."""
    return next((places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in places), None)


def _text(file: Path, at: FieldPath) -> str:
    """Return the text of *file*; raise SpecError if there is none."""
    try:
        data = file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(file, at, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        message = "cannot be read: is not UTF-8 text from here on"
        raise _unreadable(file, at, message, line, column) from None


def _compose(file: Path, text: str, at: FieldPath) -> Any:
    """Return the YAML nodes of *text*."""
    try:
        return yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _unreadable(file, at, f"is not YAML: {error.problem}", line, column) from None
    except yaml.YAMLError as error:
        raise _unreadable(file, at, f"is not YAML: {error}".split("\n")[0], 1, 1) from None


def _json(file: Path, text: str, at: FieldPath) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _unreadable(file, at, f"is not JSON: {error.msg}", error.lineno, error.colno) from None
    except RecursionError:
        raise _unreadable(file, at, "is nested too deeply", 1, 1) from None


def _unreadable(
    file: Path, at: FieldPath, message: str, line: int | None = None, column: int | None = None
) -> SpecError:
    return SpecError([Problem(".".join(map(str, at)), message, str(file), line, column)])


def _build(node: Any, at: FieldPath, file: Path, seen: tuple[Path, ...], document: Document) -> Any:
    """Turn a YAML node into data, noting places and duplicate keys, and reading the files it names."""
    if node is None:
        document.places.setdefault(at, Place(str(file), 1, 1))
        return None
    document.places.setdefault(at, _place(file, node))
    if len(at) > _DEEPEST:
        raise SpecError([_at(document, at[:2], "is nested too deeply, or holds itself by an alias")])
    if isinstance(node, yaml.MappingNode):
        return dict(_items(node, at, file, seen, document))
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*at, i), file, seen, document) for i, child in enumerate(node.value)]
    value = _scalar(node, at, document)
    if _names_file(value) and at and at[0] != "sweep":
        return _include(value, at, file.parent, seen, document)
    return value


def _scalar(node: Any, at: FieldPath, document: Document) -> Any:
    """Return the value of a node without parts; dates and words such as ``off`` are text, as in YAML 1.2."""
    sort = node.tag.rpartition(":")[2]
    if sort == "timestamp" or (sort == "bool" and node.value.lower() not in ("true", "false")):
        return node.value
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        document.problems.append(_at(document, at, f"{node.value!r} is not a value of the kind {sort!r}"))
        return None


def _items(
    node: Any, at: FieldPath, file: Path, seen: tuple[Path, ...], document: Document
) -> Iterator[tuple[str, Any]]:
    names: set[str] = set()
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            place = _place(file, key_node)
            path, message = ".".join(map(str, at)), "names a field by a list or mapping; write plain text"
            document.problems.append(Problem(path, message, place.file, place.line, place.column))
            continue
        key = str(key_node.value)
        document.places[(*at, key)] = _place(file, key_node)
        if key in names:
            document.problems.append(_at(document, (*at, key), "is written twice; keep one"))
        names.add(key)
        yield key, _build(value_node, (*at, key), file, seen, document)


def _names_file(value: Any) -> bool:
    return isinstance(value, str) and value.endswith(_SUFFIXES)


def _include(name: str, at: FieldPath, folder: Path, seen: tuple[Path, ...], document: Document) -> Any:
    """Return the content of the file *name*, with its places; text of several words may be just that."""
    found = next((path for path in (folder / name, Path(name)) if path.is_file()), None)
    if found is None and " " in name:
        return name
    if found is None:
        document.problems.append(_at(document, at, f"no file {name!r}, neither in {folder} nor here"))
        return None
    if found.resolve() in seen:
        document.problems.append(_at(document, at, f"{name!r} names itself"))
        return None
    try:
        inner = read_document(found, at, seen)
    except SpecError as error:
        document.problems += error.problems
        return None
    document.places |= inner.places
    document.problems += inner.problems
    return inner.data


def _with_files(value: Any, at: FieldPath, document: Document) -> Any:
    """Return plain data with the content of the files that it names."""
    if isinstance(value, Mapping):
        return {key: _with_files(inner, (*at, key), document) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(inner, (*at, number), document) for number, inner in enumerate(value)]
    return _include(value, at, document.folder, (), document) if _names_file(value) else value


def _note_places(node: Any, at: FieldPath, file: Path, document: Document) -> None:
    """Note where each field of a JSON file stands, which YAML's reader can say and JSON's cannot."""
    document.places.setdefault(at, _place(file, node))
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            path = (*at, str(key_node.value))
            document.places[path] = _place(file, key_node)
            _note_places(value_node, path, file, document)
    elif isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            _note_places(child, (*at, number), file, document)


def _set(document: Document, data: Any, at: FieldPath, value: Any) -> None:
    key = at[-1]
    if isinstance(data, list) and not (isinstance(key, int) and key < len(data)):
        message = f"there is no entry {key!r}; the list has {len(data)}, counted from 0"
        raise SpecError([_at(document, at, message)])
    data[key] = value


def _place(file: Path, node: Any) -> Place:
    return Place(str(file), node.start_mark.line + 1, node.start_mark.column + 1)


def _at(document: Document, path: FieldPath, message: str) -> Problem:
    place = place_of(document.places, path)
    name = ".".join(map(str, path))
    return Problem(name, message, place.file, place.line, place.column) if place else Problem(name, message)


def _problem(error: Any, kind: type[Spec], document: Document) -> Problem:
    path = tuple(key for key in error["loc"] if not str(key).startswith("function-"))
    cause = (error.get("ctx") or {}).get("error")
    if isinstance(cause, FieldError):
        path = (*path, *keys_of(cause.path)) if cause.path else path
    if error["type"] == "extra_forbidden":
        message = f"no such field; {choices(str(path[-1]), _fields(kind, path[:-1], document))}"
    else:
        message = _message(error)
    return _at(document, path, message)


def _message(error: Any) -> str:
    """Say in our words what pydantic found."""
    said, sort, value = error["msg"], error["type"], error["input"]
    if sort == "missing":
        return "is required"
    if sort == "value_error":
        return str(said.removeprefix("Value error, "))
    if value is None:
        return "is empty; give it a value, or leave it out where there is a default"
    if sort in ("model_type", "dict_type"):
        return f"needs a mapping of fields to values, not {_short(value)}"
    said = said.partition(", ")[0] if sort.startswith("int_") else said
    return f"{said[0].lower()}{said[1:]}, not {_short(value)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields(kind: Any, path: FieldPath, document: Document) -> list[str]:
    """Return the names of the fields that the model at *path* has."""
    data = document.data
    for key in path:
        data = _child(data, key)
        if isinstance(key, int):
            continue
        info = getattr(kind, "model_fields", {}).get(key)
        marks = info.metadata if info else ()
        policy = next((mark for mark in marks if isinstance(mark, by_name)), None)
        if policy is not None:
            kind = policy.class_for(data, document.folder)
        else:
            kind = _model(info.annotation if info else None, marks, data)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _child(data: Any, key: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(key, data.get(str(key)))
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
