"""Ask an index a question: cpt-ray search "parse an ISO date".

Prints the nearest functions with path and line.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.model.options import Device
from cpt_ray.options import Options

FREE = "query"
READS = {"folder": "folder", "index": "index", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray search`."""

    query: str = Field(description="what to look for; the words on the command line that are no key=value")
    folder: str = Field("outputs/demo", description="where index and model are, unless they are named")
    index: str | None = Field(None, description="an index; null: <folder>/index")
    trained: str | None = Field(None, description="the model that made it; null: <folder>/code_model")
    k: int = Field(10, ge=1, le=1000, description="answers")
    device: Device = Field("auto", description="where the model runs; auto: on a GPU where there is one")
