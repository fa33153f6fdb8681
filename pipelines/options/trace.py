"""Say where a pair is from, and read it again there: cpt-ray trace <pair_id> pairs=outputs/demo/text_pairs.

Prints WARC file, offset, URL and spans, or repository, commit, path and lines.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options
from cpt_ray.web.options import NetworkOptions

FREE = "pair"
READS = {"pairs": "pairs"}


class PipelineOptions(Options):
    """Options of `cpt-ray trace`."""

    pair: str = Field("", description="a pair_id; the word on the command line that is no key=value")
    pairs: str = Field("outputs/demo/text_pairs", description="the pairs artifact, with what it was made of beside it")
    archive: str | None = Field(
        None, description="folder of the WARC files; null: beside the documents, or where they were read from"
    )
    network: NetworkOptions = NetworkOptions()
    sample: int = Field(0, ge=0, description="trace so many random pairs instead, and count those that read the same")
