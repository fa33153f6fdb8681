"""Options of a sweep, and the trials that they ask for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from pydantic import Field

from cpt_ray.errors import UserError
from cpt_ray.options import How, Options
from cpt_ray.train.options import HeldoutMetric


class SweepOptions(Options):
    """What is varied, and how much each trial sees."""

    batch_sizes: list[int] = Field([256, 512], min_length=1, description="pairs of a global batch")
    temperatures: list[float] = Field([0.05, 0.2], min_length=1, description="initial temperatures")
    examples: int = Field(8192, ge=1, description="pairs that every trial sees, whatever its batch size")
    metric: HeldoutMetric = Field("heldout_mrr", description="held-out metric that ranks the trials")
    concurrent: How[int] = Field(1, ge=1, description="trials at a time; each needs all of its workers' resources")


@dataclass(frozen=True)
class Trial:
    """One point of the grid."""

    batch_size: int
    temperature: float
    steps: int

    @property
    def name(self) -> str:
        return f"batch-{self.batch_size}-temperature-{self.temperature:g}"


def trials(options: SweepOptions) -> list[Trial]:
    """All points of the grid. UserError when a batch size does not divide the examples evenly."""
    for size in options.batch_sizes:
        if options.examples % size:
            raise UserError(
                f"{options.examples:,} examples are not a whole number of batches of {size:,}",
                where="examples",
                fix="choose a multiple of every batch size, so that all trials see equally many pairs",
            )
    points = itertools.product(dict.fromkeys(options.batch_sizes), dict.fromkeys(options.temperatures))
    return [Trial(size, temperature, options.examples // size) for size, temperature in points]
