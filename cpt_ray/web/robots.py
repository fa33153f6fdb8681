"""robots.txt (RFC 9309), failing closed: a site whose rules cannot be read is not crawled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protego import Protego

LONGEST = 512 * 1024
"""Bytes of a robots.txt that are read; RFC 9309 section 2.5 asks for 500 KiB at least."""


@dataclass(frozen=True)
class Robots:
    """The rules of one origin for our product token."""

    reachable: bool
    crawl_delay: float | None
    sitemaps: tuple[str, ...]
    _rules: Protego | None
    _agent: str

    def allows(self, url: str) -> bool:
        """Whether a normalised URL may be fetched."""
        if not self.reachable:
            return False
        return self._rules is None or bool(self._rules.can_fetch(url, self._agent))


def robots(status: int | None, body: bytes, agent: str) -> Robots:
    """The rules from the final answer to GET /robots.txt; `status` None when there was no answer.

    2xx: the file's rules. 4xx: no rules, all is allowed (RFC 9309 section 2.3.1.3). 429, 5xx, a redirect without end
    and no answer at all: nothing is allowed (2.3.1.4); too many requests is no permission to make more.
    """
    if status is not None and 200 <= status < 300:
        rules = Protego.parse(body[:LONGEST].decode("utf-8", "replace").lstrip("\ufeff"))
        delay = rules.crawl_delay(agent)
        return Robots(True, None if delay is None else max(0.0, float(delay)), _unique(rules.sitemaps), rules, agent)
    if status is not None and 400 <= status < 500 and status != 429:
        return Robots(True, None, (), None, agent)
    return Robots(False, None, (), None, agent)


def _unique(sitemaps: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(sitemaps)))
