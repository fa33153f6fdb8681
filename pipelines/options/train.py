"""Train an embedding model contrastively on pairs.

Pairs and initial weights in; batches in their training order, and a model out that `cpt-ray embed`, `search`, `serve`
and SentenceTransformer load.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.evaluate.suite_options import SuiteOptions
from cpt_ray.evaluate.watch import Watch
from cpt_ray.model.options import ModelOptions
from cpt_ray.options import Options
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.train.options import TrainOptions, check_best, check_divisible, check_engine

from ..config import validating

READS = {"pairs": "pairs", "model.init": "weights"}


class Recipe(Options):
    """How pairs are batched, trained on and scored: of one training, or of all trials of a sweep."""

    batches: BatchOptions = BatchOptions()
    train: TrainOptions = TrainOptions()
    heldout_pairs: int = Field(512, ge=2, description="held-out pairs scored during training, at most")

    @property
    def watched(self) -> Sequence[str]:
        """Names of the figures of tasks that are measured as training goes on."""
        return ()

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        with validating():
            check_engine(self.train, "train")
            check_best(self.train, self.watched, "train.best")
        return self


class Steps(Recipe):
    """The steps from pairs to a model."""

    watch: SuiteOptions = SuiteOptions()

    @property
    def watched(self) -> Sequence[str]:
        return Watch(self.watch.tasks).names

    @model_validator(mode="after")
    def _divisible(self) -> Steps:
        with validating():
            check_divisible(self.train, self.batches.batch_size, "batches.batch_size")
        return self


class PipelineOptions(Steps):
    """Options of `cpt-ray train`."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    pairs: str = Field(description="a pairs artifact, such as outputs/code/code_pairs")
    model: ModelOptions = ModelOptions()
    output: str = Field("train", description="folder under cluster.outputs")
    register_as: str | None = Field(
        None, pattern="^[^/:]+$", description="name in MLflow's registry to register the model as; null: not at all"
    )
