"""Where a number comes from: every figure of the catalogue says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from clustersim.spec.base import Spec

Kind = Literal["measured", "published", "fitted", "assumed"]


class Source(Spec):
    """The origin of a group of numbers; what is only remembered or estimated is ``assumed``."""

    source: str = Field(min_length=3)
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d\d){0,2}$")]
    kind: Kind
