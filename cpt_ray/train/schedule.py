"""Learning rate by step, and the optimiser's parameter groups."""

from __future__ import annotations

import math
from collections.abc import Iterable
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


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors and scalars (norms, biases) do not. Under ZeRO-3 the shape is that of the whole weight."""
    trained = [p for p in parameters if p.requires_grad]
    whole = [getattr(p, "ds_shape", p.shape) for p in trained]
    groups = [
        {
            "params": [p for p, shape in zip(trained, whole, strict=True) if len(shape) >= 2],
            "weight_decay": weight_decay,
        },
        {"params": [p for p, shape in zip(trained, whole, strict=True) if len(shape) < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
