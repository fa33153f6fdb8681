"""Pages whose URL matches a pattern: login pages, print views, tag lists, a host that is not wanted."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from pydantic import Field, field_validator

from cpt_ray.web.filters import Document, Filter


class Url(Filter):
    """Drop a page, as `url`, when one of the patterns is found in its URL."""

    kind: Literal["url"] = "url"
    patterns: tuple[str, ...] = Field(
        min_length=1, description="regular expressions (Python's), each looked for anywhere in the normalised URL"
    )

    @field_validator("patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {pattern!r}: {error}") from None
            if not pattern:
                raise ValueError("an empty pattern matches every URL")
        return patterns

    def reason(self, document: Document) -> str | None:
        return "url" if any(one.search(document.url) for one in _compiled(self.patterns)) else None


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, patterns))
