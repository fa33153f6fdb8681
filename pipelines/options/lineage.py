"""Write OpenLineage events about an artifact and all that it was made of: cpt-ray lineage outputs/demo/code_model.

A file with a line each, START and COMPLETE of every step, as OpenLineage's file transport writes them; a catalogue takes each
line by POST. Runs have the ids that they had: what is sent twice is there once.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options

FREE = "artifact"
READS = {"artifact": "artifact"}


class PipelineOptions(Options):
    """Options of `cpt-ray lineage`."""

    artifact: str = Field(description="a published artifact (any fsspec URI); the word that is no key=value")
    output: str | None = Field(None, description="the events; null: <artifact>.openlineage.ndjson")
