"""Options of a sweep."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cpt_ray.kinds import one_of
from cpt_ray.options import How, Options
from cpt_ray.sweep.axes import Axes, axes_of
from cpt_ray.sweep.searches.grid import Grid
from cpt_ray.train.options import HeldoutMetric

PAPERS: Axes = {"batches.batch_size": [256, 512], "train.temperature": [0.05, 0.2]}
"""What matters most by the paper's own account; varied where nothing else is asked for."""


class SweepOptions(Options):
    """What is varied, how it is searched, and how much each trial sees."""

    over: dict[str, Any] = Field(
        default_factory=dict,
        description="what is varied, by any key of train, batches and model: a list, as in"
        " over.train.temperature=[0.05,0.2], or a range, as in over.train.learning_rate={low: 1.0e-4, high: 1.0e-2,"
        " log: true}; {..., whole: true} has whole numbers alone. Nothing: batch size and temperature, two values each",
    )
    search: one_of("cpt_ray.sweep.searches") = Field(  # type: ignore[valid-type]
        Grid(), description="which points are trained, by kind"
    )
    examples: int = Field(8192, ge=1, description="pairs that every trial sees, whatever its batch size")
    metric: HeldoutMetric = Field("heldout_mrr", description="held-out metric that ranks the trials")
    concurrent: How[int] = Field(
        1, ge=1, description="trials at a time, and no more than the cluster has room for with all of their workers"
    )

    @property
    def axes(self) -> Axes:
        """Key -> values or range; UserError for what is neither."""
        return axes_of(self.over) or dict(PAPERS)
