"""The flow of `cpt-ray dedup`: documents, and an index of earlier ones, become clusters and the next index."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("dedup")  # ends here, before the imports below, which may take seconds

import posixpath

from cpt_ray.artifacts import Manifest, Wanted
from cpt_ray.dedup.cluster import CLUSTER, deduplicate
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.known import INDEX, compatible, several
from cpt_ray.dedup.signatures import parquet_files

from . import flows, reads
from .config import at
from .options.dedup import READS, PipelineOptions


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the clusters and the index; returns the manifests by path."""
    reads.check_options(READS, options)
    for index in several(options.index):
        with at("index", index):
            compatible(index, options.dedup)
    return flows.make(flow(options.cluster.on_disk(options.output), options), options.cluster)


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
