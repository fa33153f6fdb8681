"""Options of the documentation site."""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options


class SiteOptions(Options):
    """What to render."""

    max_pages: int = Field(
        default=6000, ge=1, description="module pages, at most; shared out fairly between distributions"
    )
    min_characters: int = Field(
        default=300, ge=1, description="a module with less docstring text than this gets no page"
    )
    max_source_bytes: int = Field(default=1_000_000, ge=1, description="a source file larger than this is left out")
    shards: int = Field(default=32, ge=1, description="number of shards the distributions are dealt to")
