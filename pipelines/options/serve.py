"""Serve a model, and its index if it has one, over HTTP: POST /v1/embeddings as OpenAI's, POST /v1/search.

One process on loopback, unless told otherwise: replicas=2 has Ray Serve run several, and config=serve.yaml writes what
`serve deploy` takes for a cluster that is up. / is a page to search by, /openapi.json says what there is.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.model.options import Device, Inference
from cpt_ray.options import Options
from cpt_ray.serve.options import HttpOptions

READS = {"folder": "folder", "index": "index", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray serve`."""

    http: HttpOptions = HttpOptions()
    folder: str = Field("outputs/demo", description="where index and model are, unless they are named")
    index: str | None = Field("auto", description="an index; auto: <folder>/index; null: none, the model alone")
    trained: str | None = Field(None, description="the model that made it; null: <folder>/code_model")
    replicas: int = Field(0, ge=0, description="of the model, on Ray Serve; 0: this process alone")
    config: str | None = Field(None, description="file to write what `serve deploy` takes to, and end")
    cluster: ClusterOptions = ClusterOptions()
    name: str | None = Field(None, description="what the model is called in requests; null: as its folder")
    device: Device = Field("auto", description="where the model runs; auto: on a GPU where there is one")
    precision: Inference = Field(
        "auto", description="of the model's products; auto: the faster here, measured at the start"
    )
