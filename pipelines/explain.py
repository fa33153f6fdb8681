"""Explain why a document was removed as a duplicate, or kept.

Names its cluster, the document it matched, and the evidence.
"""

from __future__ import annotations

from pydantic import Field
from rich.table import Table

from cpt_ray.dedup.explain import explain
from cpt_ray.options import Options
from pipelines.cli import script
from pipelines.summary import console


class PipelineOptions(Options):
    """Options of `cpt-ray explain`."""

    clusters: str = Field(description="a clusters artifact, such as outputs/demo/function_clusters")
    doc_id: str = Field(description="the document (doc_id) or function (function_id)")


def run(options: PipelineOptions) -> dict[str, object]:
    """Print what the clusters table says of one document."""
    found = explain(options.clusters, options.doc_id)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in found.items():
        table.add_row(name, "" if value is None else str(value))
    console().print(table, highlight=False)
    return found


if __name__ == "__main__":
    script("explain")
