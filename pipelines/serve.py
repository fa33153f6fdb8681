"""Serve a model, and its index if it has one, over HTTP: POST /v1/embeddings as OpenAI's, GET /search?q=.

Also POST /embed, GET /v1/models and GET /health. Listens on loopback unless told otherwise.
"""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from cpt_ray.options import Options
from cpt_ray.serve.http import serve
from cpt_ray.serve.options import HttpOptions
from pipelines import reads
from pipelines.cli import script
from pipelines.search import open_index

READS = {"folder": "folder", "index": "artifact", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray serve`."""

    http: HttpOptions = HttpOptions()
    folder: str = Field("outputs/demo", description="where index and model are, unless they are named")
    index: str | None = Field("auto", description="an index; auto: <folder>/index; null: none, the model alone")
    trained: str | None = Field(None, description="the model that made it; null: <folder>/code_model")
    name: str | None = Field(None, description="what the model is called in requests; null: as its folder")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the model runs; auto: on a GPU where there is one"
    )


def run(options: PipelineOptions) -> None:
    """Serve until interrupted."""
    trained = options.trained or os.path.join(options.folder, "code_model")
    if options.index is None:
        reads.check("trained", "trained", trained)
        from cpt_ray.model.embedder import Embedder

        index, embedder = None, Embedder(trained, device=options.device)
    else:
        at = None if options.index == "auto" else options.index
        index, embedder = open_index(options.folder, at, trained, options.device)
    name = options.name or os.path.basename(os.path.abspath(trained))
    serve(embedder, index, options.http, name=name)


if __name__ == "__main__":
    script("serve")
