"""Measure a model: search among held-out pairs, and suites of labelled tasks.

`pairs=` searches 1,000 held-out candidates as the paper does, with the model, the weights it started from, BM25 and chance
on the very same candidates. `suite=` measures search in BEIR folders, linear probes, similarity and classification without
training, beside BM25, TF-IDF with SVD, and chance.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.suite_options import SuiteOptions
from cpt_ray.model.options import Device, Inference
from cpt_ray.options import Options

READS = {"pairs": "pairs", "trained": "encoder", "initial": "weights", "data": "folder"}


class PipelineOptions(Options):
    """Options of `cpt-ray evaluate`."""

    cluster: ClusterOptions = ClusterOptions()
    trained: str = Field(description="the trained model's folder, or one of sentence-transformers")
    initial: str | None = Field(None, description="the weights it started from, a folder or hub id, measured beside it")
    pairs: str | None = Field(None, description="a pairs artifact; its held-out part is searched")
    candidates: CandidateOptions = CandidateOptions()
    suite: SuiteOptions = SuiteOptions()
    data: str | None = Field(
        None, description="folder of labelled data, which the suites of conf/suite name as ${data}"
    )
    device: Device = Field("auto", description="where models run; auto: a GPU where there is one")
    precision: Inference = Field(
        "auto", description="of the models' products; auto: the faster here, measured and kept"
    )
    output: str = Field("evaluation", description="folder under cluster.outputs; a suite is in <output>_suite")

    @model_validator(mode="after")
    def _something(self) -> PipelineOptions:
        if self.pairs is None and not self.suite.tasks:
            raise ValueError("nothing to measure: give pairs=..., or suite=... with data=..., or both")
        if self.pairs is not None and self.initial is None:
            raise ValueError("pairs are searched with the weights that training began with too: give initial=...")
        return self
