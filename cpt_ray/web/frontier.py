"""The frontier: which URLs come next. Breadth first by level, each level sorted.

The order is a function of the link graph alone, so the pages of a crawl cut off by `max_pages` do not depend on how
many requests ran at once, and a resumed crawl walks the same levels again (over what the archive already holds) instead
of trusting a saved queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cpt_ray.web.url import Scope


class Frontier:
    """Every URL ever seen, and the next level. `dropped` counts the URLs never taken, by reason."""

    def __init__(self, scope: Scope, *, max_pages: int, max_depth: int, max_redirects: int) -> None:
        self._scope = scope
        self._pages_left = max_pages
        self._levels_left = max_depth + 1
        self._max_redirects = max_redirects
        self._seen: set[str] = set()
        self._next: dict[str, int] = {}
        self.dropped: Counter[str] = Counter()

    @property
    def seen(self) -> int:
        """Number of distinct URLs found so far."""
        return len(self._seen)

    def add(self, urls: Iterable[str]) -> None:
        """Normalised URLs linked from the present level."""
        for url in urls:
            self._add(url, 0)

    def add_redirect(self, url: str, hops: int) -> None:
        """The target of a redirect from a URL that itself was `hops` redirects away from a link."""
        self._add(url, hops + 1)

    def _add(self, url: str, hops: int) -> None:
        if url in self._next:
            self._next[url] = min(self._next[url], hops)
        elif url not in self._seen:
            self._seen.add(url)
            if url in self._scope:
                self._next[url] = hops
            else:
                self.dropped["out_of_scope"] += 1

    def level(self) -> dict[str, int]:
        """The URLs of the next level, sorted, with their number of redirects; the level is then closed."""
        level, self._next = self._next, {}
        if self._levels_left <= 0:
            self.dropped["max_depth"] += len(level)
            return {}
        self._levels_left -= 1
        kept = {url: hops for url, hops in sorted(level.items()) if hops <= self._max_redirects}
        if len(kept) < len(level):
            self.dropped["too_many_redirects"] += len(level) - len(kept)
        return kept

    def afford(self, urls: list[str]) -> list[str]:
        """The first of these (sorted, allowed) URLs that `max_pages` still covers."""
        kept = urls[: self._pages_left]
        self._pages_left -= len(kept)
        if len(kept) < len(urls):
            self.dropped["max_pages"] += len(urls) - len(kept)
        return kept
