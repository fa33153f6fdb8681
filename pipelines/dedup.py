"""Deduplicate documents, alone or against all earlier runs, and keep an index for the next one.

An artifact or a folder of Parquet in; the clusters table (who is kept, who goes, and by what evidence) and the index out.
"""

from __future__ import annotations

import posixpath

from pydantic import Field

from cpt_ray.artifacts import Manifest, Wanted, check_flow, run_flow
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.dedup.cluster import CLUSTER, deduplicate
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.known import INDEX
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.dedup.signatures import parquet_files
from cpt_ray.options import Options
from pipelines import reads
from pipelines.cli import script
from pipelines.config import at
from pipelines.summary import print_artifacts

READS = {"index": "artifact"}


class PipelineOptions(Options):
    """Options of `cpt-ray dedup`."""

    cluster: ClusterOptions = ClusterOptions()
    source: str = Field(description="an artifact of documents, a folder of Parquet files, or one of them")
    id_column: str = Field("doc_id", description="column that names a document, once in the source")
    text_column: str = Field("text", description="column with the text")
    dedup: DedupOptions = DedupOptions()
    index: str | None = Field(None, description="the index of earlier runs, whose documents are compared with too")
    output: str = Field("dedup", description="folder under cluster.outputs; holds clusters and index")


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the clusters and the index; returns the manifests by path."""
    reads.check_options(READS, options)
    wanted = flow(options.cluster.folder(options.output), options)
    with connect(options.cluster) as resources:
        check_flow(wanted, resources)
        made = run_flow(wanted)
    print_artifacts(made)
    return made


def flow(out: str, options: PipelineOptions) -> list[Wanted]:
    """`clusters` and `index` under `out`. UserError where the source holds no Parquet."""
    clusters, index = posixpath.join(out, "clusters"), posixpath.join(out, "index")
    with at("source", options.source):
        documents = parquet_files(options.source)
    names = {"id_column": options.id_column, "text_column": options.text_column}
    return [
        Wanted(
            clusters,
            CLUSTER,
            lambda: deduplicate(clusters, documents, **names, options=options.dedup, index=options.index),
            (documents,) if isinstance(documents, str) else (),
            columns=(*names.values(), *options.dedup.columns),
        ),
        Wanted(
            index,
            INDEX,
            lambda: write_index(index, clusters, documents, text_column=options.text_column, previous=options.index),
            (clusters,),
        ),
    ]


if __name__ == "__main__":
    script("dedup")
