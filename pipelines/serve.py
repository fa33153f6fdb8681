"""Serve a model and its index over HTTP: POST /embed, GET /search?q=, GET /healthz.

Listens on loopback unless told otherwise.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options
from cpt_ray.serve.http import HttpOptions, serve
from pipelines.cli import script
from pipelines.search import open_index

READS = {"folder": "folder", "index": "artifact", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray serve`."""

    http: HttpOptions = HttpOptions()
    folder: str = Field("outputs/demo", description="where index and model are, unless they are named")
    index: str | None = Field(None, description="an index; null: <folder>/index")
    trained: str | None = Field(None, description="the model that made it; null: <folder>/code_model")


def run(options: PipelineOptions) -> None:
    """Serve until interrupted."""
    index, embedder = open_index(options.folder, options.index, options.trained)
    serve(embedder.embed, embedder.dimension, index, options.http)


if __name__ == "__main__":
    script("serve")
