"""Sweep batch size and initial temperature at equal examples seen.

Each trial is an artifact of its own and a run in MLflow, so a killed sweep goes on trial by trial.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.model.options import ModelOptions
from cpt_ray.sweep.options import SweepOptions, trials
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.train.options import check_divisible, check_temperature

from ..config import under, validating
from .train import Recipe

READS = {"pairs": "pairs", "model.init": "weights"}


class PipelineOptions(Recipe):
    """Options of `cpt-ray sweep`."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    pairs: str = Field(description="a pairs artifact, such as outputs/code/code_pairs")
    model: ModelOptions = ModelOptions()
    sweep: SweepOptions = SweepOptions()
    output: str = Field("sweep", description="folder under cluster.outputs")

    @model_validator(mode="after")
    def _trainable(self) -> PipelineOptions:
        with validating(), under("sweep", SweepOptions):
            check_trials(self.sweep, self)
        return self


def check_trials(grid: SweepOptions, recipe: Recipe) -> None:
    """UserError for a grid that cannot be trained, before anything starts."""
    for trial in trials(grid):
        check_divisible(recipe.train, trial.batch_size, "batch_sizes")
        check_temperature(recipe.train, trial.temperature, "temperatures")
