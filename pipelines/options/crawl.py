"""Crawl the web, politely, into WARC archives.

Seeds, robots.txt and sitemaps in; WARC segments out. The same command goes on where it stopped.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.options import Options
from cpt_ray.web.options import CrawlOptions


class PipelineOptions(Options):
    """Options of `cpt-ray crawl`."""

    cluster: ClusterOptions = ClusterOptions()
    output: str = Field("web", description="folder under cluster.outputs; the archive is <output>/crawl")
    web: CrawlOptions = CrawlOptions()
