"""robots.txt by RFC 9309, failing closed."""

from __future__ import annotations

import gzip
import re
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cpt_ray.web.robots import LONGEST, robots

RULES = b"User-agent: cpt-ray\nDisallow: /private/\nAllow: /private/open\nCrawl-delay: 2.5\n\nUser-agent: *\nDisallow: /\n\nSitemap: http://a/s.xml\n"
CLOSED = b"User-agent: *\nDisallow: /\n"


def allows(text: str | bytes, path: str = "/x", agent: str = "cpt-ray") -> bool:
    body = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return robots(200, body, agent).allows(f"http://a{path}")


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
    [
        *((status, True) for status in (400, 401, 403, 404, 410, 418, 451)),
        *((status, False) for status in (408, 425, 429, 500, 501, 502, 503, 504, 520, 599, 999, 100, 206)),
        *((status, False) for status in (300, 301, 302, 304, 307, 308, None)),
        *((status, True) for status in (200, 203, 204)),
    ],
)
def test_status(status: int | None, allowed: bool) -> None:
    """RFC 9309 section 2.3.1: unavailable allows everything, unreachable and "not now" nothing."""
    assert robots(status, b"", "cpt-ray").allows("http://a/x") is allowed


CASES = [
    # agents
    ("User-agent: cpt-ray/1.0\nDisallow: /\n", "/x", False),
    ("User-agent: cpt-ray 2.1\nDisallow: /\n", "/x", False),
    ("User-agent: CPT-Ray\nDisallow: /\n", "/x", False),
    ("User-agent: cpt\nDisallow: /\n\nUser-agent: *\nAllow: /\n", "/x", True),
    ("User-agent: cpt\nAllow: /\n\nUser-agent: *\nDisallow: /\n", "/x", False),
    ("User-agent: cpt-rayon\nAllow: /\n\nUser-agent: *\nDisallow: /\n", "/x", False),
    ("User-agent: Mozilla/5.0 (compatible; cpt-ray/1.0)\nAllow: /\n\nUser-agent: *\nDisallow: /\n", "/x", False),
    ("User-agent: *\nDisallow: /\n\nUser-agent: cpt-ray\nDisallow:\n", "/x", True),
    ("User-agent: *\nDisallow: /\n\nUser-agent: cpt-ray\n", "/x", True),
    ("User-agent: * # all\nDisallow: /\n", "/x", False),
    ("User-agent: *bot\nDisallow: /\n", "/x", True),
    ("Disallow: /\n", "/x", True),
    # groups
    ("User-agent: cpt-ray\nCrawl-delay: 5\nUser-agent: other\nDisallow: /x\n", "/x", False),
    ("User-agent: cpt-ray\nSitemap: http://a/s\nUser-agent: other\nDisallow: /x\n", "/x", False),
    ("User-agent: cpt-ray\nNonsense: 1\n\nUser-agent: other\nDisallow: /x\n", "/x", False),
    ("User-agent: cpt-ray\n\n\nUser-agent: other\n\nDisallow: /x\n", "/x", False),
    ("User-agent: cpt-ray\nDisallow: /x\nUser-agent: other\nDisallow: /y\n", "/y", True),
    ("User-agent: cpt-ray\nDisallow: /x\n\nUser-agent: cpt-ray\nDisallow: /y\n", "/x", False),
    ("User-agent: cpt-ray\nDisallow: /x\n\nUser-agent: cpt-ray/2\nDisallow: /y\n", "/y", False),
    ("User-agent: *\nDisallow: /x\n\nUser-agent: a\nAllow: /\n\nUser-agent: *\nDisallow: /y\n", "/y", False),
    ("User-agent: cpt-ray\nDisallow:\nUser-agent: b\nDisallow: /\n", "/x", True),
    ("User-agent: a\nDisallow: /y\n\nUser-agent:\nDisallow: /\n", "/x", True),
    # which rule
    ("User-agent: *\nDisallow: /\nAllow: /x\n", "/x/y", True),
    ("User-agent: *\nAllow: /x\nDisallow: /x\n", "/x", True),
    ("User-agent: *\nAllow: /p\nDisallow: /*.html\n", "/p.html", False),
    ("User-agent: *\nAllow: /$\nDisallow: /\n", "/", True),
    ("User-agent: *\nAllow: /$\nDisallow: /\n", "/x", False),
    ("User-agent: *\nDisallow: /x\n", "/X", True),
    ("User-agent: *\nDisallow: x\n", "/x", True),
    ("User-agent: *\nDisallow: /\n", "/robots.txt", True),
    # patterns
    ("User-agent: *\nDisallow: /*.gif$\n", "/a/b.gif", False),
    ("User-agent: *\nDisallow: /*.gif$\n", "/a/b.gif?x", True),
    ("User-agent: *\nDisallow: /a*b*c\n", "/a1b2b3c4", False),
    ("User-agent: *\nDisallow: /a*b*c$\n", "/abcbc", False),
    ("User-agent: *\nDisallow: /a*a$\n", "/a", True),
    ("User-agent: *\nDisallow: *\n", "/x", False),
    ("User-agent: *\nDisallow: /*?\n", "/x?q", False),
    ("User-agent: *\nDisallow: /x***\n", "/x", False),
    ("User-agent: *\nDisallow: /a$b\n", "/a$b", False),
    ("User-agent: *\nDisallow: /file-%2A.html\n", "/file-*.html", False),
    ("User-agent: *\nDisallow: /file-%2A.html\n", "/file-1.html", True),
    ("User-agent: *\nDisallow: /foo-%24\n", "/foo-$", False),
    # percent-encoding: the table of RFC 9309 section 2.2.2, and more
    ("User-agent: *\nDisallow: /foo/bar?baz=http://foo.bar\n", "/foo/bar?baz=http%3A%2F%2Ffoo.bar", False),
    ("User-agent: *\nDisallow: /foo/bar/ツ\n", "/foo/bar/%E3%83%84", False),
    ("User-agent: *\nDisallow: /foo/bar/%E3%83%84\n", "/foo/bar/%E3%83%84", False),
    ("User-agent: *\nDisallow: /foo/bar/%62%61%7A\n", "/foo/bar/baz", False),
    ("User-agent: *\nDisallow: /%7ejoe/\n", "/~joe/x", False),
    ("User-agent: *\nDisallow: /%e3%83%84\n", "/%E3%83%84", False),
    ("User-agent: *\nDisallow: /a%2fb\n", "/a/b", True),
    ("User-agent: *\nDisallow: /a b\n", "/a%20b", False),
    ("User-agent: *\nDisallow: /100%\n", "/100%25", False),
    ("User-agent: *\nDisallow: /caf\udce9\n", "/caf%E9", False),
    # lines
    ("User-agent: *\rDisallow: /\r", "/x", False),
    ("User-agent: *\r\nDisallow: /\r\n", "/x", False),
    ("User-agent: *\nDisallow: /x # not this\n", "/x", False),
    ("User-agent: *\nDisallow /x\n", "/x", False),
    ("User-agent *\nDisallow /a:b\n", "/a:b", False),
    ("  user-AGENT :\t*\n\tDISALLOW\t:  /x  \n", "/x", False),
    ("User-agent: *\nDissallow: /x\n", "/x", False),
    ("User-agent: *\nDisallow: /a\x85b\nDisallow: /x\u2028\n", "/b", True),
    ("\ufeffUser-agent: *\nDisallow: /\n", "/x", False),
    ("\ufeff\ufeffUser-agent: *\nDisallow: /\n", "/x", False),
    ("User-agent: *\nDisallow: /", "/x", False),
    ("<!doctype html><pre>\nUser-agent: *\nDisallow: /x\n</pre>", "/x", False),
]


@pytest.mark.parametrize(("text", "path", "allowed"), CASES)
def test_rules(text: str, path: str, allowed: bool) -> None:
    """RFC 9309 sections 2.2 and 2.3, case by case."""
    assert allows(text, path) is allowed


def test_crawl_delay() -> None:
    """The longest of our groups' delays; decimal commas and units are understood, nonsense is no delay."""

    def delay(lines: str) -> float | None:
        return robots(200, f"User-agent: *\n{lines}\nDisallow: /x\n".encode(), "cpt-ray").crawl_delay

    assert delay("Crawl-delay: 3") == 3
    assert delay("Crawl-delay: 0,5") == 0.5
    assert delay("crawl-delay: 10s # please") == 10
    assert delay("Crawl-delay: 1\nCrawl-delay: 7") == 7
    assert delay("Crawl-delay: soon") is None
    assert delay("Crawl-delay: -1") is None
    assert delay("Crawl-delay: nan") is None


PATHS = st.text(alphabet="/ab%2A*$?", max_size=7).map("/".__add__)
LINES = st.lists(st.tuples(st.sampled_from(["Allow", "Disallow"]), PATHS), max_size=6)


@given(LINES, st.text(alphabet="/ab*$?", max_size=7).map("/".__add__))
@example([("Disallow", "/a*b$"), ("Allow", "/a*")], "/aab")
@example([("Disallow", "/*a$"), ("Allow", "/*a")], "/aa")
def test_longest_match_like_the_definition(lines: list[tuple[str, str]], path: str) -> None:
    """Every rule as a regular expression, all of them tried: the longest that matches, among equals Allow."""

    def spelt(text: str) -> str:
        text = re.sub(r"%(?!2A|2a)", "%25", text)
        return re.sub(r"\$", "%24", text)

    def matches(pattern: str) -> bool:
        body, end = (pattern[:-1], "$") if pattern.endswith("$") else (pattern, "")
        return (
            re.match(".*".join(map(re.escape, spelt(body).split("*"))) + end, spelt(path).replace("*", "%2A"))
            is not None
        )

    def length(pattern: str) -> int:
        return len(spelt(pattern[:-1])) + 1 if pattern.endswith("$") else len(spelt(pattern))

    found = [(length(pattern), kind == "Allow") for kind, pattern in lines if matches(pattern)]
    text = "User-agent: *\n" + "".join(f"{kind}: {pattern}\n" for kind, pattern in lines)
    assert allows(text, path) is max(found, default=(0, True))[1]


def test_many_rules_cost_no_time() -> None:
    """500 KiB of rules, and patterns of stars, are matched at once."""
    plain = "User-agent: *\n" + "".join(f"Disallow: /{i}/\n" for i in range(20_000))
    rules = robots(200, plain.encode(), "cpt-ray")
    assert not rules.allows("http://a/19999/x")
    stars = "User-agent: *\n" + "Disallow: /" + "*a" * 500 + "$\n"
    rules = robots(200, stars.encode(), "cpt-ray")
    assert rules.allows("http://a/" + "a" * 499 + "b")


BROTLI = b"\x8b\x0c\x80User-agent: *\nDisallow: /\n\x03"
PACKED = gzip.compress(b"User-agent: *\nDisallow: /\n" + b"# padding\n" * 50)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PACKED[:-10], "gzip"),
        (PACKED[:20], "x-gzip"),
        (PACKED[:10], "gzip"),
        (PACKED[:15] + b"xxxx" + PACKED[19:], "gzip"),
        (zlib.compress(CLOSED)[:-3], "deflate"),
        (BROTLI[:-4], "br"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        (b"\x1f\x9d\x90" + PACKED, "compress"),
        (gzip.compress(b"#" * 20_000_000), "gzip"),
        (PACKED, ""),
        (CLOSED.decode().encode("utf-16-le"), ""),
        (CLOSED.decode().encode("utf-32"), ""),
        (b"\xff\xfeU", ""),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ""),
        (b"\x00" * 100, ""),
    ],
)
def test_a_body_that_cannot_be_read_closes_the_site(body: bytes, coding: str) -> None:
    """Cut off, broken, unknown, endless, no text: the rules are not known, so nothing is allowed."""
    assert not robots(200, body, "cpt-ray", coding=coding).allows("http://a/x")
    assert not robots(200, body, "cpt-ray", coding=coding).reachable


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PACKED, "gzip"),
        (zlib.compress(CLOSED), "deflate"),
        (BROTLI, "br"),
        (PACKED, "compress"),
        (PACKED, "br"),
        (CLOSED, "gzip"),
        (CLOSED, "identity"),
        (CLOSED.decode().encode("utf-16"), ""),
        (b"\xef\xbb\xbf" + CLOSED, ""),
    ],
)
def test_packed_and_marked_bodies_are_read(body: bytes, coding: str) -> None:
    """What says how it is to be read is read: the rule in it holds."""
    found = robots(200, body, "cpt-ray", coding=coding)
    assert found.reachable
    assert not found.allows("http://a/x")


def test_odd_files() -> None:
    """HTML without rules forbids nothing. Of a long file the first 500 KiB count, whole lines of them."""
    assert allows(b"<html>\xff\xfe no robots here")
    assert allows(b"")
    late = b"User-agent: *\n" + b"#" * 600_000 + b"\nDisallow: /"
    assert allows(late)
    head = b"User-agent: *\nDisallow: /\n"
    rest = b"Allow: /private-but-open\n"
    half = head + b"#" * (LONGEST - len(head) - 10) + b"\n" + rest + b"#" * 100
    assert b"\nAllow: /p" in half[:LONGEST]
    assert not allows(half, "/private")
    assert not allows(half, "/private-but-open")
    assert not allows(gzip.compress(half), "/x")
    assert not robots(200, gzip.compress(CLOSED + b"#" * 600_000), "cpt-ray", coding="gzip").allows("http://a/x")
