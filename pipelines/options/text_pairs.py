"""Turn crawled archives into neighbouring-text pairs.

WARC archives in; documents, the same without repeated paragraphs, their duplicate clusters and train/heldout pairs out,
as Parquet.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.dedup.options import CleanOptions, DedupOptions
from cpt_ray.options import Options
from cpt_ray.pairs.options import NeighbourOptions, SplitOptions
from cpt_ray.web.options import ExtractOptions, NetworkOptions, SelectOptions


class Steps(Options):
    """The steps from archive to pairs."""

    extract: ExtractOptions = ExtractOptions()
    clean: CleanOptions = CleanOptions()
    dedup: DedupOptions = DedupOptions()
    neighbours: NeighbourOptions = NeighbourOptions()
    split: SplitOptions = SplitOptions()


class PipelineOptions(Steps):
    """Options of `cpt-ray text-pairs`."""

    cluster: ClusterOptions = ClusterOptions()
    archive: str = Field(
        description="a crawl artifact; a folder of WARC, WET or ARC files, one of them, or a pattern (any fsspec URI);"
        " a list of paths, as warc.paths.gz; or an index of records, as CDX, CDXJ or Common Crawl's (cluster.idx, columnar)"
    )
    select: SelectOptions = SelectOptions()
    network: NetworkOptions = NetworkOptions()
    output: str = Field("web", description="folder under cluster.outputs")
