"""Sweep any keys of the training, such as batch size, temperature and learning rate, at equal examples seen.

sweep.over.<key> says what is varied, sweep.search.kind how its points are chosen. Each trial is an artifact of its own and
a run in MLflow, so a killed sweep goes on trial by trial.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.model.options import ModelOptions
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.trials import Setting, known_trials
from cpt_ray.tracking.options import TrackingOptions

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
            known_trials(self.sweep, Setting(self.train, self.batches, self.model))
        return self
