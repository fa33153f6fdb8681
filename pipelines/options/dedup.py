"""Deduplicate documents, alone or against all earlier runs, and keep an index for the next one.

An artifact or a folder of Parquet in; the clusters table (who is kept, who goes, and by what evidence) and the index out.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.options import Options

READS = {"source": "table", "index": "artifact"}


class PipelineOptions(Options):
    """Options of `cpt-ray dedup`."""

    cluster: ClusterOptions = ClusterOptions()
    source: str = Field(description="an artifact of documents, a folder of Parquet files, one of them, or a pattern")
    id_column: str = Field("doc_id", description="column that names a document, once in the source")
    text_column: str = Field("text", description="column with the text")
    dedup: DedupOptions = DedupOptions()
    index: str | tuple[str, ...] | None = Field(
        None, description="the index of earlier runs, or several, whose documents are compared with too"
    )
    output: str = Field("dedup", description="folder under cluster.outputs; holds clusters and index")
