"""The base of every description, and how a field names a card of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from clustersim.errors import ClusterSimError, UnknownNameError

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOUNS = {"workloads/serving": "load", "topologies/efficiency": "efficiency card"}
PACKAGE = Path(__file__).resolve().parent.parent


class Spec(BaseModel):
    """Base of every description: immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


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


def card(folder: str) -> BeforeValidator:
    """Let a field hold a card by its name in the catalogue, as a mapping, or as an object.

    A path to a YAML or JSON file needs nothing here: ``spec.load`` has replaced it by its content.
    """

    def read(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return card_data(folder, value)
        except UnknownNameError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(read)


def load_card(kind: type[S], folder: str, name: str) -> S:
    """Return the catalogue's card *name* as an object of *kind*."""
    return kind.model_validate(card_data(folder, name), context={"needs_units": True})
