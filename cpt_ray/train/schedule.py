"""Learning rate by step."""

from __future__ import annotations

import math

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
