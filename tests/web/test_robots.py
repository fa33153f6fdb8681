"""robots.txt, failing closed."""

from __future__ import annotations

import pytest

from cpt_ray.web.robots import robots

RULES = b"User-agent: cpt-ray\nDisallow: /private/\nAllow: /private/open\nCrawl-delay: 2.5\n\nUser-agent: *\nDisallow: /\n\nSitemap: http://a/s.xml\n"


def test_rules_for_our_agent() -> None:
    """The group of our product token counts, the longest match decides, delay and sitemaps are read."""
    found = robots(200, RULES, "cpt-ray")
    assert found.allows("http://a/x")
    assert not found.allows("http://a/private/x")
    assert found.allows("http://a/private/open")
    assert (found.crawl_delay, found.sitemaps) == (2.5, ("http://a/s.xml",))
    assert not robots(200, RULES, "other").allows("http://a/x")


@pytest.mark.parametrize(
    ("status", "allowed"),
    [(404, True), (401, True), (410, True), (429, False), (500, False), (503, False), (302, False), (None, False)],
)
def test_status(status: int | None, allowed: bool) -> None:
    """RFC 9309 section 2.3.1: unavailable allows everything, unreachable nothing."""
    assert robots(status, b"", "cpt-ray").allows("http://a/x") is allowed


def test_odd_files() -> None:
    """A byte order mark, nonsense, and too long a file are read as far as they go."""
    assert not robots(200, b"\xef\xbb\xbfUser-agent: *\nDisallow: /", "cpt-ray").allows("http://a/x")
    assert robots(200, b"<html>\xff\xfe no robots here", "cpt-ray").allows("http://a/x")
    late = b"User-agent: *\n" + b"#" * 600_000 + b"\nDisallow: /"
    assert robots(200, late, "cpt-ray").allows("http://a/x")
