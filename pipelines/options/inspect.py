"""Write a page about an artifact of documents, functions or pairs: cpt-ray inspect outputs/demo/text_pairs.

One HTML file that asks nothing of any host: what each step from record to row kept and dropped, with examples of every
reason; how lengths, quality and similarity are spread; whose the rows are; and some rows at random.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options

FREE = "artifact"
READS = {"artifact": "artifact"}


class PipelineOptions(Options):
    """Options of `cpt-ray inspect`."""

    artifact: str = Field(description="a published artifact (any fsspec URI); the word that is no key=value")
    output: str | None = Field(None, description="the page; null: <artifact>.html")
