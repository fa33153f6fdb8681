"""The flow of `cpt-ray crawl`: seeds become an archive."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("crawl")  # ends here, before the imports below, which may take seconds

import posixpath
from contextlib import nullcontext

from cpt_ray.artifacts import Manifest, read_manifest
from cpt_ray.cluster import connect
from cpt_ray.errors import UserError
from cpt_ray.web.crawl import CRAWL, UNREACHED, seeds_of
from cpt_ray.web.crawl import crawl as crawl_pages
from cpt_ray.web.options import CrawlOptions

from .config import under
from .options.crawl import PipelineOptions
from .summary import print_artifacts, reasons, shown


def run(options: PipelineOptions) -> Manifest:
    """Crawl, or go on crawling; returns the archive's manifest."""
    path = posixpath.join(options.cluster.on_disk(options.output), "crawl")
    with connect(options.cluster) if options.web.shards > 1 else nullcontext():
        manifest = make(path, options.web)
    print_artifacts({path: manifest})
    dropped = manifest.balance.units["urls"].dropped
    if not manifest.rows and dropped.keys() <= UNREACHED:
        fix = f"check the URLs, the network and web.allow_private; then remove {shown(path)} and run it again"
        raise UserError(f"not one page was reached: {reasons(dropped)}", where="web.seeds", fix=fix)
    return manifest


def make(path: str, web: CrawlOptions, *, resolve: dict[str, str] | None = None, source: str = "") -> Manifest:
    """The archive at `path`; `source` is the digest of the site where it is known: another site is crawled anew."""
    with under("web", CrawlOptions):
        seeds_of(web)  # before what stands is looked at, and found to be of other seeds
    inputs: dict[str, str | Manifest] = {"site": source} if source else {}
    for number, earlier in enumerate(web.previous):
        inputs[f"previous {number}"] = read_manifest(earlier)
    with CRAWL.build(path, params=web, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        with under("web", CrawlOptions):
            return crawl_pages(web, work, resolve=resolve)
