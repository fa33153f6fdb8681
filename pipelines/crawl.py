"""Crawl the web, politely, into WARC archives.

Seeds, robots.txt and sitemaps in; WARC segments out. The same command goes on where it stopped.
"""

from __future__ import annotations

import posixpath

from pydantic import Field

from cpt_ray.artifacts import Manifest
from cpt_ray.cluster import ClusterOptions
from cpt_ray.options import Options
from cpt_ray.web.crawl import CRAWL
from cpt_ray.web.crawl import crawl as crawl_pages
from cpt_ray.web.options import CrawlOptions
from pipelines.cli import script
from pipelines.config import under
from pipelines.summary import print_artifacts


class PipelineOptions(Options):
    """Options of `cpt-ray crawl`."""

    cluster: ClusterOptions = ClusterOptions()
    output: str = Field("web", description="folder under cluster.outputs; the archive is <output>/crawl")
    web: CrawlOptions = CrawlOptions()


def run(options: PipelineOptions) -> Manifest:
    """Crawl, or go on crawling; returns the archive's manifest."""
    path = posixpath.join(options.cluster.folder(options.output), "crawl")
    manifest = make(path, options.web)
    print_artifacts({path: manifest})
    return manifest


def make(path: str, web: CrawlOptions, *, resolve: dict[str, str] | None = None, source: str = "") -> Manifest:
    """The archive at `path`; `source` is the digest of the site where it is known: another site is crawled anew."""
    inputs: dict[str, str | Manifest] = {"site": source} if source else {}
    with CRAWL.build(path, params=web, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        with under("web", CrawlOptions):
            return crawl_pages(web, work, resolve=resolve)


if __name__ == "__main__":
    script("crawl")
