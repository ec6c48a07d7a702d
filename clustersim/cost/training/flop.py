"""The FLOPs that utilisation is counted in, as the field defines them. No clock.

Model FLOPs of a step are three times those of the forward products (PaLM, arXiv 2204.02311, appendix B;
Korthikanti et al., arXiv 2205.05198, appendix A): two a multiplication and addition, all products with
weights that a token meets and those of attention with all query-key pairs, causal or not, and the logits;
look-ups, norms and softmax count nothing. MFU = model FLOPs / (seconds x accelerators x dense peak). HFU
counts the forward products that are recomputed as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clustersim.cost.training.plans import RECOMPUTE, Plans
from clustersim.models.transformer import Transformer

Floats = NDArray[np.float64]


def model_flop(model: Transformer, sequence: Floats) -> Floats:
    """Return the model FLOPs of one sequence of *sequence* tokens, forward and backward."""
    return 3.0 * (forward_weights_flop(model, sequence) + attention_flop(model, sequence))


def forward_weights_flop(model: Transformer, sequence: Floats) -> Floats:
    """Return the FLOPs of one forward pass in products with weights, the logits included."""
    parts = model.weight_elements
    met = model.active_parameters - parts.embeddings - parts.norms - parts.lm_head
    return 2.0 * sequence * (met + model.vocabulary * model.hidden)


def attention_flop(model: Transformer, sequence: Floats) -> Floats:
    """Return the FLOPs of one forward pass in attention's products, all pairs of a window counted."""
    latent = model.latent
    width = latent.nope_size + latent.rope_size + latent.value_size if latent else 2 * model.head_size
    seen = model.full_layers * sequence
    if model.window_layers:
        seen = seen + model.window_layers * np.minimum(sequence, model.window_tokens)
    return 2.0 * model.heads * width * sequence * seen


def hardware_flop(model: Transformer, plans: Plans) -> Floats:
    """Return the FLOPs of one sequence with those that are recomputed."""
    logits = 2.0 * plans.sequence * model.vocabulary * model.hidden
    layers = forward_weights_flop(model, plans.sequence) - logits
    core = attention_flop(model, plans.sequence)
    covered = np.minimum(1.0, plans.recompute_layers / plans.most_layers)
    full = np.where(plans.recompute == RECOMPUTE["full"], covered * (layers + core), 0.0)
    selective = np.where(plans.recompute == RECOMPUTE["selective"], core, 0.0)
    return model_flop(model, plans.sequence) + full + selective
