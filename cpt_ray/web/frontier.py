"""The frontier: which URLs come next. Breadth first by level, each level sorted.

The order is a function of the link graph alone, so the pages of a crawl cut off by `max_pages` (`rounds`) do not depend on
how many requests ran at once, and a resumed crawl walks the same levels again (over what the archive already holds) instead
of trusting a saved queue.

Traps are bounded: by depth, by redirects in a row, by how often one path may come with another query, and by how often
a path may repeat a folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cpt_ray.web.url import Scope

MAX_SEGMENTS = 40
MAX_REPEATS = 4
"""A path of more segments than that, or with the same segment more often, has been made by a loop of relative links."""


class Found(NamedTuple):
    """How a URL was found: links away from a seed or sitemap, redirects since the last link, and whether there was a link
    (or sitemap) at all: False for a seed."""

    depth: int = 0
    hops: int = 0
    linked: bool = True


class Frontier:
    """Every URL ever seen, and the next level. `dropped` counts the URLs never taken, by reason."""

    def __init__(self, scope: Scope, *, max_depth: int, max_redirects: int, max_queries: int = 1000) -> None:
        self._scope = scope
        self._max_depth = max_depth
        self._max_redirects = max_redirects
        self._max_queries = max_queries
        self._queries: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._next: dict[str, Found] = {}
        self._put_back: dict[str, Found] = {}
        self.dropped: Counter[str] = Counter()

    @property
    def seen(self) -> int:
        """Number of distinct URLs found so far."""
        return len(self._seen)

    @property
    def waits(self) -> bool:
        """Whether there is a next level."""
        return bool(self._next or self._put_back)

    def add(self, urls: Iterable[str], found: Found = Found()) -> None:  # noqa: B008 - immutable
        """Normalised URLs that were found in the same way; of several ways in one level the nearest counts."""
        for url in urls:
            if url in self._next:
                self._next[url] = min(self._next[url], found)
            elif url not in self._seen:
                self._seen.add(url)
                if url in self._scope:
                    self._next[url] = found
                else:
                    self.dropped["out_of_scope"] += 1

    def put_back(self, level: Mapping[str, Found]) -> None:
        """URLs of a level that have to wait for another."""
        self._put_back |= level

    def level(self) -> dict[str, Found]:
        """The URLs of the next level, sorted; the level is then closed."""
        level, kept = self._next, self._put_back
        self._next, self._put_back = {}, {}
        for url, found in sorted(level.items()):
            reason = self._reason(url, found)
            if reason is None:
                kept[url] = found
            else:
                self.dropped[reason] += 1
        return dict(sorted(kept.items()))

    def _reason(self, url: str, found: Found) -> str | None:
        """Why a URL is not taken."""
        if found.depth > self._max_depth:
            return "max_depth"
        if found.hops > self._max_redirects:
            return "too_many_redirects"
        path, query, _ = url.partition("?")
        if found.linked and _repeats(path.split("/")[3:]):
            return "repeating_path"
        if query:
            self._queries[path] += 1
            if self._queries[path] > self._max_queries:
                return "too_many_queries"
        return None


def _repeats(segments: list[str]) -> bool:
    if len(segments) <= MAX_REPEATS:
        return False
    return len(segments) > MAX_SEGMENTS or max(Counter(filter(None, segments)).values(), default=0) > MAX_REPEATS
