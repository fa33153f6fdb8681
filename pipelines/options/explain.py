"""Explain why a document was removed as a duplicate, or kept.

Names its cluster, the document it matched, and the evidence.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options


class PipelineOptions(Options):
    """Options of `cpt-ray explain`."""

    clusters: str = Field(description="a clusters artifact, such as outputs/demo/function_clusters")
    doc_id: str = Field(description="the document (doc_id) or function (function_id)")
