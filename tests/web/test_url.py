"""URLs: one spelling each."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.web.url import Scope, join, normalise, origin, path_and_query, without_session


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
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7F.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.01/", "http://127.0.0.1/"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
        ("http://1.2.3.4.5/", None),
        ("http://256.0.0.1/", None),
        ("http://a.1/", None),
        ("http://1.a/", "http://1.a/"),
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


@given(st.lists(st.sampled_from(["/", ".", "%2e", "%2E", "%2f", "a", "%25"]), max_size=9).map("".join))
def test_no_dots_are_left_however_they_are_escaped(path: str) -> None:
    """Or a rule of robots.txt would be asked about another path than the server sees."""
    url = normalise(f"http://h/{path}")
    assert url is not None
    assert normalise(url) == url
    assert not {".", ".."} & set(url.removeprefix("http://h").split("/"))


@given(st.text(alphabet="ab/.~%-_é ?#:", max_size=20))
def test_the_short_cut_gives_what_the_long_way_gives(link: str) -> None:
    """join() has fast paths for plain absolute paths and for links with a host; they must agree with urljoin and normalise."""
    from urllib.parse import urljoin

    base = "http://h.example/d/e"
    if link.strip().startswith("/"):
        assert join(base, link) == normalise(urljoin(base, link.strip()))
    for host in ("http://h.example", "HTTPS://other.example:443", "http:", "http:/", "https://"):
        for page in (base, "https://h.example/d/e"):
            assert join(page, host + link) == normalise(urljoin(page, (host + link).strip()))


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../q", "http://h/q"),
        ("?x=1", "http://h/d/e?x=1"),
        ("//other/z", "http://other/z"),
        ("#top", None),
        ("\\a\\b?x=\\", "http://h/a/b?x=%5C"),
        ("..\\q", "http://h/q"),
        ("http:\\\\other\\z", "http://other/z"),
        ("/a/%2e%2e/b", "http://h/b"),
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


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("https://fa%C3%9F.de/", "https://xn--fa-hia.de/"),
        ("http://βόλος.com/", "http://xn--nxasmm1c.com/"),
        ("http://☕.example/", "http://xn--53h.example/"),
        ("http://ＥＸＡＭＰＬＥ。com/", "http://example.com/"),
        ("http://日本語.jp", "http://xn--wgv71a119e.jp/"),
        ("http://Bücher.example:8080/ü", "http://xn--bcher-kva.example:8080/%C3%BC"),
        ("http://xn--fa-hia.de/", "http://xn--fa-hia.de/"),
        ("http://a_b.example/", "http://a_b.example/"),
        ("http://a..b/", None),
        ("http://" + "a" * 64 + ".de/", None),
        ("http://" + "ü" * 80 + ".de/", None),
        ("http://a%00b.de/", None),
        ("http://a%ffb.de/", None),
        ("http://a%2fb.de/", None),
    ],
)
def test_internationalised_hosts(url: str, expected: str | None) -> None:
    """UTS 46, not transitional, as browsers look names up: other rules lead to somebody else's site."""
    assert normalise(url) == expected


def test_queries_are_escaped_in_the_charset_of_the_page() -> None:
    """WHATWG URL section 5: the query in the page's charset, characters it lacks as references; the path in UTF-8."""
    link = "/поиск?q=мир&x=☃#где"
    path = "/%D0%BF%D0%BE%D0%B8%D1%81%D0%BA"
    assert join("http://h/", link, "windows-1251") == f"http://h{path}?q=%EC%E8%F0&x=%26%239731%3B"
    assert join("http://h/", link) == f"http://h{path}?q=%D0%BC%D0%B8%D1%80&x=%E2%98%83"
    assert join("http://h/", "?q=%EC", "windows-1251") == "http://h/?q=%EC"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/a;jsessionid=12AB?x=1&utm_source=q&y=2&PHPSESSID=a", "http://h/a?x=1&y=2"),
        ("http://h/?gclid=1", "http://h/"),
        ("http://h/?x=1&fbclid=2", "http://h/?x=1"),
        ("http://h/?a=1&sid=3&", "http://h/?a=1&sid=3&"),
        ("http://h/utm_source=1", "http://h/utm_source=1"),
        ("http://h/?not_gclid=1", "http://h/?not_gclid=1"),
    ],
)
def test_sessions_and_campaigns_are_no_pages(url: str, expected: str) -> None:
    """Parameters that tell visits apart are left out; all others stay, in order."""
    assert without_session(url) == expected


def test_scheme_and_www_make_no_other_site() -> None:
    """The commonest redirect of all stays in scope, for hosts and for folders; another host or port does not."""
    for seed, other in (
        ("http://e.example/d/", "https://www.e.example/d/x"),
        ("https://www.e.example/d/", "http://e.example/d/x"),
    ):
        assert other in Scope("host", (seed,))
        assert other in Scope("prefix", (seed,))
        assert "http://e.example/other" not in Scope("prefix", (seed,))
        assert "http://w.e.example/d/x" not in Scope("host", (seed,))
        assert "http://e.example:8080/d/x" not in Scope("prefix", (seed,))
