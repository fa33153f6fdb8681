"""What an encoder multiplies: the one count behind a plan's hours and the logged utilisation.

Only weights of matrix products count: an embedding is looked up, not multiplied. Attention scores are left out, as is usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel

from cpt_ray.model.decoder import text_decoder
from cpt_ray.model.last_layer import once_a_text
from cpt_ray.model.options import ModelOptions

FORWARD = 2
"""FLOPs that one weight costs in a forward pass, for one token; forward and backward cost three times that."""
TRAINING = 3 * FORWARD


@dataclass(frozen=True)
class Weights:
    """Numbers of weights that every token is multiplied with, and those that only one token of a text is."""

    per_token: int
    per_text: int

    def products(self, tokens: float, texts: float) -> float:
        """Multiplications of one forward pass over `texts` texts of `tokens` tokens together."""
        return self.per_token * tokens + self.per_text * texts


def weights_of(backbone: PreTrainedModel) -> Weights:
    """Of a decoder as `Encoder` runs it, on the meta device too. ZeRO must not have cut the weights yet."""
    looked_up = {id(module.weight) for module in backbone.modules() if isinstance(module, nn.Embedding)}
    matrices = {id(p): p.numel() for p in backbone.parameters() if p.ndim >= 2 and id(p) not in looked_up}
    once = sum(matrices.pop(id(p), 0) for module in once_a_text(backbone) for p in module.parameters())
    return Weights(sum(matrices.values()), once)


def without_memory(config: Any, model: ModelOptions) -> PreTrainedModel:
    """The decoder of a configuration on the meta device: its shapes, for counting."""
    # A package for faster attention need not be installed where a plan is made; it changes no count.
    kernel = {"attn_implementation": "eager"} if model.attention == "eager" else {}
    with torch.device("meta"):
        return text_decoder(AutoModel.from_config(config, **kernel))
