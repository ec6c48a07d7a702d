"""Architectures as plain numbers: dimensions, parameters and bytes, without hardware and without a clock."""

from clustersim.models.transformer import Experts, Latent, Transformer, WeightElements

__all__ = ["Experts", "Latent", "Transformer", "WeightElements"]
