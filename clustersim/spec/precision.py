"""In which number format a model's weights, activations and key-value cache are held."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from clustersim.errors import choices
from clustersim.spec.base import Spec

Format = Literal["bf16", "fp16", "fp8", "fp4", "int8", "int4"]

BYTES: Final[Mapping[str, float]] = MappingProxyType(
    {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.51953125}
)
"""Bytes an element, block scales included.

``fp4`` is NVFP4: 4 bits and one 8-bit scale for 16 elements (published, NVIDIA: Introducing NVFP4, 2025).
``int4`` is group-quantised: 4 bits, one 16-bit scale and one 4-bit zero point for 128 elements
(published, AWQ, arXiv 2306.00978). Scales of ``fp8`` and ``int8`` are per tensor or per row and neglected.
"""

SHORT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        name: MappingProxyType(dict(zip(("weights", "activations", "kv"), formats, strict=True)))
        for name, formats in {
            "bf16": ("bf16", "bf16", "bf16"),
            "fp16": ("fp16", "fp16", "fp16"),
            "fp8": ("fp8", "fp8", "bf16"),
            "int8": ("int8", "int8", "bf16"),
            "fp4": ("fp4", "fp4", "bf16"),
            "int4": ("int4", "bf16", "bf16"),
        }.items()
    }
)
"""What one word means: the cache stays at 16 bits unless asked for, and ``int4`` quantises weights alone."""


class Precision(Spec):
    """The formats of weights, activations and cache; one word such as ``fp8`` stands for all three.

    ``fp8``, ``int8`` and ``fp4`` mean weights and activations in that format with a bf16 cache,
    ``int4`` means int4 weights with bf16 activations and cache, ``bf16`` and ``fp16`` all three.
    Products of activations and weights run at the rate of the activations' format.

    >>> Precision.model_validate("fp8").kv
    'bf16'
    """

    weights: Format = "bf16"
    activations: Format = "bf16"
    kv: Format = "bf16"

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in SHORT:
            raise ValueError(f"unknown precision {value!r}; {choices(value, SHORT)}")
        return dict(SHORT[value])

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        description = (cls.__doc__ or "").partition("\n")[0]
        return {"description": description, "anyOf": [{"enum": list(SHORT)}, handler(schema)]}

    @property
    def weight_bytes(self) -> float:
        """Bytes of one element of the weights."""
        return BYTES[self.weights]

    @property
    def activation_bytes(self) -> float:
        """Bytes of one element of the activations."""
        return BYTES[self.activations]

    @property
    def kv_bytes(self) -> float:
        """Bytes of one element of the key-value cache."""
        return BYTES[self.kv]
