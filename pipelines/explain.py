"""`cpt-ray explain`: what the clusters say of one document."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("explain")  # ends here, before the imports below, which may take seconds

from rich.table import Table

from cpt_ray.dedup.explain import explain

from .options.explain import PipelineOptions
from .summary import console


def run(options: PipelineOptions) -> dict[str, object]:
    """Print what the clusters table says of one document."""
    found = explain(options.clusters, options.doc_id)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in found.items():
        table.add_row(name, "" if value is None else str(value))
    console().print(table, highlight=False)
    return found
