"""Vision transformers, and language models that see through one. Dimensions and operators; no clock."""

from __future__ import annotations

from dataclasses import dataclass

from clustersim.models.encoder import Encoder, encoder_operators, forward_flop
from clustersim.models.operators import Gemm, Operator, Shard, operators, split
from clustersim.models.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Vision:
    """A vision transformer: an encoder over the patches of an image."""

    encoder: Encoder
    image: int
    """Pixels of a side."""
    patch: int
    """Pixels of a side of a patch."""
    channels: int = 3
    classes: int = 0
    extra_tokens: int = 1
    """Tokens beside the patches, such as the one that is classified."""

    @property
    def tokens(self) -> int:
        """Tokens of one image."""
        return (self.image // self.patch) ** 2 + self.extra_tokens

    @property
    def patch_elements(self) -> int:
        """Numbers of one patch."""
        return self.channels * self.patch**2

    @property
    def parameters(self) -> int:
        """All weights: patch embedding, positions, layers, and the head of the classifier."""
        tables = (self.patch_elements + self.tokens + self.classes) * self.encoder.hidden
        return self.encoder.parameters + tables


@dataclass(frozen=True, slots=True)
class VisionLanguage:
    """A language model that reads the patches of images through a projector of two layers."""

    vision: Vision
    language: Transformer
    pooled: int = 1
    """Patches that become one token of the language model."""

    @property
    def tokens_per_image(self) -> int:
        """Tokens that one image is to the language model."""
        return (self.vision.tokens - self.vision.extra_tokens) // self.pooled

    @property
    def projector_elements(self) -> int:
        """Weights of the projector."""
        wide = self.language.hidden
        return self.vision.encoder.hidden * self.pooled * wide + wide * wide

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.vision.parameters + self.projector_elements + self.language.parameters


def vision_operators(model: Vision, tensor: int = 1) -> tuple[Operator, ...]:
    """Return the operators over the tokens of images on one of *tensor* ranks."""
    embedding = Gemm("patch embedding", 1, split(model.encoder.hidden, tensor), model.patch_elements)
    return embedding, *encoder_operators(model.encoder, tensor)


def projector_operators(model: VisionLanguage, tensor: int = 1) -> tuple[Operator, ...]:
    """Return the operators over the image tokens that the language model reads."""
    wide = model.language.hidden
    narrow = model.vision.encoder.hidden * model.pooled
    return (
        Gemm("projector up", 1, split(wide, tensor), narrow),
        Gemm("projector down", 1, wide, split(wide, tensor)),
    )


def image_flop(model: VisionLanguage) -> float:
    """Return the FLOPs to turn one image into tokens of the language model."""
    seen = forward_flop(vision_operators(model.vision), float(model.vision.tokens))
    return seen + forward_flop(projector_operators(model), float(model.tokens_per_image))


def language_operators(model: VisionLanguage, tensor: int = 1) -> tuple[Operator, ...]:
    """Return the operators over the tokens of text and images together."""
    return operators(model.language, Shard(tensor, 1, tensor))
