"""The whole path on the packages installed here: crawl to searchable, tracked models.

1. A documentation site is rendered from the installed distributions, served on loopback and crawled.
2. Its pages become documents, duplicate clusters and neighbouring-text pairs.
3. Documented functions are mined from the same distributions and become (docstring, code) pairs.
4. A tokenizer and a small GPT are trained on both: the initial weights.
5. A text model and a code model are trained contrastively, and batch size and temperature are swept.
6. Held-out distributions are searched by the models, their initial weights, BM25 and chance.
7. All functions are indexed, and a report is written.

Every stage is an artifact and a run in MLflow; the same command goes on where it stopped.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.installed.options import SiteOptions
from cpt_ray.model.options import ModelOptions
from cpt_ray.options import Options
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.trials import Setting, known_trials
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.web.options import CrawlOptions

from ..config import under, validating
from . import code_pairs, pretrain, text_pairs, train


class SweepSteps(Options):
    """The sweep: short trainings on the code pairs from the same initial weights."""

    grid: SweepOptions = SweepOptions()
    steps: train.Recipe = train.Recipe()

    @model_validator(mode="after")
    def _possible(self) -> SweepSteps:
        with validating(), under("grid", SweepOptions):
            known_trials(self.grid, Setting(self.steps.train, self.steps.batches, ModelOptions()))
        return self


class PipelineOptions(Options):
    """Options of `cpt-ray demo`."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    output: str = Field("demo", description="folder under cluster.outputs")
    only: tuple[str, ...] = Field((), description="use these installed distributions alone; none: all of them")
    site: SiteOptions = SiteOptions()
    web: CrawlOptions = CrawlOptions()
    text: text_pairs.Steps = text_pairs.Steps()
    code: code_pairs.Steps = code_pairs.Steps()
    initial: pretrain.Steps = pretrain.Steps()
    code_model: train.Steps = train.Steps()
    text_model: train.Steps = train.Steps()
    sweep: SweepSteps = SweepSteps()
    evaluation: CandidateOptions = CandidateOptions()
    index: EmbedOptions = EmbedOptions()
    queries: tuple[str, ...] = Field((), description="example searches shown in the report")
