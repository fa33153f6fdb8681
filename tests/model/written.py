"""A small trained-looking model on disk, with random weights."""

from __future__ import annotations

from typing import Any

from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import Encoder
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import ModelInfo, load_backbone, save_model


def write_model(folder: str, tokenizer: Any, options: ModelOptions, *, tokens: int, x: int, y: int) -> Encoder:
    """Write a model over `tokens` embeddings as training does; x and y are the most tokens of the two sides."""
    backbone = load_backbone(options, tokens, seed=3)
    encoder = Encoder(backbone, Delimiters.of(tokenizer))
    info = ModelInfo(
        delimiters=encoder.delimiters.to_dict(),
        max_x_tokens=x,
        max_y_tokens=y,
        temperature=0.05,
        embedding_dimension=encoder.dimension,
    )
    save_model(encoder, tokenizer, info, folder, backbone.state_dict())
    return encoder
