"""The base of every description, and how a field names a card of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from clustersim.errors import ClusterSimError, UnknownNameError

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOUNS = {"workloads/serving": "load", "topologies/efficiency": "efficiency card"}
PACKAGE = Path(__file__).resolve().parent.parent


class Spec(BaseModel):
    """Base of every description: immutable, and strict about names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` as true, and pydantic would read true as one."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {annotation, *get_args(annotation)}:
            raise ValueError(f"{str(value).lower()} is not a number")
        return value


S = TypeVar("S", bound=Spec)


def catalogue_folder(folder: str) -> Path:
    """Return where the cards of *folder* (``topologies/nodes``) lie: in the wheel, or beside the package."""
    for root in (PACKAGE / "_data", PACKAGE.parent):
        if (root / folder).is_dir():
            return root / folder
    raise ClusterSimError(f"the catalogue folder {folder!r} is missing from this installation")


@cache
def card_files(folder: str) -> Mapping[str, Path]:
    """Return the files of the cards in *folder*, by name."""
    return {file.stem: file for file in sorted(catalogue_folder(folder).glob("*.yaml"))}


@cache
def card_data(folder: str, name: str) -> Any:
    """Return the content of one card; raise UnknownNameError if there is none of that name."""
    files = card_files(folder)
    if name not in files:
        raise UnknownNameError(_NOUNS.get(folder, folder.rpartition("/")[2].removesuffix("s")), name, files)
    return yaml.load(files[name].read_text(encoding="utf-8"), Loader)


@dataclass(frozen=True, slots=True)
class card:  # noqa: N801  (reads as a word in annotations)
    """Lets a field hold a card of *folder* by its name in the catalogue, as a mapping, or as an object.

    A mapping with a ``kind`` is the card of that name with some of its fields changed. A path to a YAML or
    JSON file needs nothing here: ``spec.load`` has replaced it by its content.
    """

    folder: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = list(card_files(self.folder))
        file = {"type": "string", "pattern": r"\.(ya?ml|json)$"}
        changed = {"type": "object", "properties": {"kind": {"enum": names}}, "required": ["kind"]}
        return {"anyOf": [{"enum": names}, file, changed, handler(schema)]}

    def _read(self, value: Any) -> Any:
        changed = isinstance(value, Mapping) and isinstance(value.get("kind"), str)
        if not isinstance(value, str) and not changed:
            return value
        try:
            found = card_data(self.folder, value["kind"] if changed else value)
        except UnknownNameError as error:
            raise ValueError(str(error)) from None
        return _over(found, {k: v for k, v in value.items() if k != "kind"}) if changed else found


def _over(card: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a card with the fields that *changes* names replaced, below the top as well."""
    changed = dict(card)
    for name, value in changes.items():
        below = changed.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _over(below, value)
        elif isinstance(value, Mapping) and isinstance(below, str):
            value = {"kind": below, **value}
        changed[name] = value
    return changed


def load_card(kind: type[S], folder: str, name: str) -> S:
    """Return the catalogue's card *name* as an object of *kind*."""
    return kind.model_validate(card_data(folder, name), context={"needs_units": True})
