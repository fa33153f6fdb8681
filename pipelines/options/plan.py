"""Say before it is rented what a training needs: memory per GPU by ZeRO stage, chunk size, steps and hours.

Refuses what cannot fit, and names what could.
"""

from __future__ import annotations

from cpt_ray.model.options import ModelOptions
from cpt_ray.options import Options
from cpt_ray.train.options import PlanOptions, TrainOptions


class PipelineOptions(Options):
    """Options of `cpt-ray plan`."""

    plan: PlanOptions = PlanOptions()
    model: ModelOptions = ModelOptions()
    train: TrainOptions = TrainOptions()
