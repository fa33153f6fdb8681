"""Train a tokenizer and a small GPT on our own text: the first weights when no hub is reachable.

A corpus of documents and functions in (what is held out is left out); a standard language-model folder out, which
`model.init` of `cpt-ray train` takes, as it takes any causal language model of transformers.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.model.options import ModelOptions, TokenizerOptions
from cpt_ray.options import Options
from cpt_ray.pairs.options import CorpusOptions, SplitOptions
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.train.options import PackOptions, PretrainOptions, check_divisible, check_engine

from ..config import validating

READS = {"documents": "folder", "functions": "folder", "model.init": "weights"}


class Steps(Options):
    """The steps from a corpus to initial weights."""

    corpus: CorpusOptions = CorpusOptions()
    tokenizer: TokenizerOptions = TokenizerOptions()
    tokenizer_texts: int = Field(40_000, ge=1, description="texts that the tokenizer is trained on, the corpus's first")
    model: ModelOptions = ModelOptions()
    windows: PackOptions = PackOptions()
    pretrain: PretrainOptions = PretrainOptions()

    @model_validator(mode="after")
    def _possible(self) -> Steps:
        with validating():
            check_engine(self.pretrain, "pretrain")
            check_divisible(self.dealt, self.windows.batch_size, "windows.batch_size")
        return self

    @property
    def dealt(self) -> PretrainOptions:
        """`pretrain` with as many workers as a batch has windows at most: more would have nothing to do."""
        most, given = self.windows.batch_size, self.pretrain
        elastic = None if given.elastic_workers is None else min(given.elastic_workers, most)
        return given.model_copy(update={"workers": min(given.workers, most), "elastic_workers": elastic})


class PipelineOptions(Steps):
    """Options of `cpt-ray pretrain`."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    split: SplitOptions = SplitOptions()
    documents: str | None = Field(
        None, description="folder with clean_documents and document_clusters (cpt-ray text-pairs)"
    )
    functions: str | None = Field(None, description="folder with functions and function_clusters (cpt-ray code-pairs)")
    output: str = Field("pretrain", description="folder under cluster.outputs")
