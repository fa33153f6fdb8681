"""Options of a sweep."""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import How, Options
from cpt_ray.train.options import HeldoutMetric


class SweepOptions(Options):
    """What is varied, and how much each trial sees."""

    batch_sizes: list[int] = Field([256, 512], min_length=1, description="pairs of a global batch")
    temperatures: list[float] = Field([0.05, 0.2], min_length=1, description="initial temperatures")
    examples: int = Field(8192, ge=1, description="pairs that every trial sees, whatever its batch size")
    metric: HeldoutMetric = Field("heldout_mrr", description="held-out metric that ranks the trials")
    concurrent: How[int] = Field(1, ge=1, description="trials at a time; each needs all of its workers' resources")
