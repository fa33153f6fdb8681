"""URLs: one spelling each."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.web.url import Scope, join, normalise, origin, path_and_query


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM:80", "http://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://a/b/../c/./d?x=%7e%2f#f", "http://a/c/d?x=~%2F"),
        ("http://a/ü?q=ä b", "http://a/%C3%BC?q=%C3%A4%20b"),
        ("http://a/%zz", "http://a/%25zz"),
        ("https://münchen.de/x", "https://xn--mnchen-3ya.de/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://a.b./", "http://a.b/"),
        ("http://user:secret@host/", None),
        ("ftp://host/", None),
        ("http://a:99999/", None),
        ("http://exa mple/", None),
        ("http:///x", None),
        ("http://a/" + "x" * 3000, None),
    ],
)
def test_normalise(url: str, expected: str | None) -> None:
    """RFC 3986 section 6.2; credentials and other schemes are no pages."""
    assert normalise(url) == expected


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    """What is normal stays as it is, and is plain ASCII."""
    for url in (text, f"http://h/{text}", f"http://h/?{text}"):
        once = normalise(url)
        if once is not None:
            assert once.isascii()
            assert normalise(once) == once


@given(st.text(alphabet="ab/.~%-_é ?#:", max_size=20))
def test_the_short_cut_gives_what_the_long_way_gives(link: str) -> None:
    """join() has a fast path for plain absolute paths; it must agree with urljoin and normalise."""
    from urllib.parse import urljoin

    base = "http://h.example/d/e"
    if link.strip().startswith("/"):
        assert join(base, link) == normalise(urljoin(base, link.strip()))


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../q", "http://h/q"),
        ("?x=1", "http://h/d/e?x=1"),
        ("//other/z", "http://other/z"),
        ("#top", None),
        ("mailto:a@b", None),
        ("javascript:x()", None),
        ("http://[bad", None),
    ],
)
def test_join(link: str, expected: str | None) -> None:
    """Links as they stand in pages."""
    assert join("http://h/d/e", link) == expected


def test_long_links_cost_no_time() -> None:
    """The fast path's pattern has no two ways to match one text."""
    started = time.thread_time()  # this thread's own work: what else the machine does is not counted
    join("http://h/", "/" + "a" * 50_000 + "!")
    join("http://h/", "/" + "a/" * 50_000 + "!")
    assert time.thread_time() - started < 1


def test_scope() -> None:
    """Host, prefix or anything."""
    seeds = ("http://a/docs/index.html",)
    assert "http://a/x" in Scope("host", seeds)
    assert "http://b/x" not in Scope("host", seeds)
    assert "http://a/docs/x" in Scope("prefix", seeds)
    assert "http://a/x" not in Scope("prefix", seeds)
    assert "http://b/x" in Scope("any", seeds)


def test_parts() -> None:
    """Origin and path of a normalised URL put together are the URL."""
    for url in ("http://a/", "https://a:8443/x?y", "http://[::1]:80/x"):
        normal = normalise(url)
        assert normal is not None
        assert str(origin(normal)) + path_and_query(normal) == normal
