"""Write a page of near duplicates to judge: cpt-ray audit outputs/demo/document_clusters.

The removals nearest the threshold, each beside what was kept for it, with a form to mark them and the error rate that
follows.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options

FREE = "clusters"
READS = {"clusters": "artifact"}


class PipelineOptions(Options):
    """Options of `cpt-ray audit`."""

    clusters: str = Field(
        description="a clusters artifact, with the documents beside it; the word that is no key=value"
    )
    count: int = Field(100, ge=1, le=10_000, description="removals on the page")
    output: str | None = Field(None, description="the page; null: <clusters>.audit.html")
