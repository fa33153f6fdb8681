"""Learning rate by step, and the optimiser's parameter groups."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from cpt_ray.train.options import EngineOptions


def rate_factor(step: int, steps: int, options: EngineOptions) -> float:
    """Share of the peak rate at `step` (0-based) of `steps`: linear warm-up, then cosine, linear or constant."""
    warmup = math.ceil(options.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(steps - warmup - 1, 1)
    left = (1 + math.cos(math.pi * done)) / 2 if options.schedule == "cosine" else 1 - done
    return options.final_rate + (1 - options.final_rate) * left


def parameter_groups(module: nn.Module, options: EngineOptions) -> list[dict[str, Any]]:
    """Matrices decay; vectors and scalars (norms, biases) do not. Under ZeRO-3 the shape is that of the whole weight.

    `rate_factor` of a group multiplies the learning rate: a token embedding is moved only by the few texts of a batch that
    hold the token, so it may want more than a matrix that all of them share.
    """
    embeddings = {id(one.weight) for one in module.modules() if isinstance(one, nn.Embedding)}
    trained = [p for p in module.parameters() if p.requires_grad]
    tables = [p for p in trained if id(p) in embeddings]
    others = [p for p in trained if id(p) not in embeddings]
    matrices = [p for p in others if len(getattr(p, "ds_shape", p.shape)) >= 2]
    vectors = [p for p in others if len(getattr(p, "ds_shape", p.shape)) < 2]
    groups = [
        {"params": tables, "weight_decay": options.weight_decay, "rate_factor": options.embedding_rate_factor},
        {"params": matrices, "weight_decay": options.weight_decay, "rate_factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "rate_factor": 1.0},
    ]
    return [group for group in groups if group["params"]]
