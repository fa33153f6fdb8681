"""Train a classifier of quality from good and bad examples.

Texts of both kinds in; a linear model out, `model.safetensors`, and how well it tells texts apart that it has not seen.
`cpt-ray text-pairs "extract.filters=[{kind: classifier, model: ...}]"` scores documents with it.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.options import Options
from cpt_ray.web.options import ClassifierOptions


class PipelineOptions(Options):
    """Options of `cpt-ray quality-model`."""

    cluster: ClusterOptions = ClusterOptions()
    good: str = Field(
        description="an artifact or .parquet with the column text, .jsonl(.gz) with such a key, or .txt with a text a line"
    )
    bad: str = Field(description="of the same kind")
    classifier: ClassifierOptions = ClassifierOptions()
    output: str = Field("quality", description="folder under cluster.outputs")
