"""Embed a column of an artifact, or of any Parquet, with a trained model, and index the vectors.

Vectors as Parquet, and a search index beside them.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.kinds import one_of
from cpt_ray.options import Options
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.serve.options import EmbedOptions

READS = {"source": "table", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray embed`."""

    cluster: ClusterOptions = ClusterOptions()
    source: str = Field(
        description="an artifact with texts, such as outputs/demo/functions, or Parquet: a file, a folder or a pattern, also"
        " in a bucket"
    )
    trained: str = Field(description="the trained model's folder, such as outputs/demo/code_model")
    embed: EmbedOptions = EmbedOptions()
    columns: tuple[str, ...] | None = Field(
        None, description="columns of the source that answers show; null: those that say what and where a row is"
    )
    index: one_of("cpt_ray.serve.indexes") | None = Field(  # type: ignore[valid-type]
        Exact(), description="how the vectors are searched, by kind; null: vectors alone, which a bucket takes too"
    )
    output: str = Field("embed", description="folder under cluster.outputs; holds embeddings and index")
