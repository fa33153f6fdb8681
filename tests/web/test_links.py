"""Links of pages and sitemaps."""

from __future__ import annotations

import gzip
import time
from collections import Counter

import pytest

from cpt_ray.web.links import MAX_LINKS, nofollow, page_links, redirect_target, sitemap_links

URL = "http://h/d/page.html"


def test_links_of_a_page() -> None:
    """Anchors and areas, absolute and relative, normalised, each once; no other element, no nofollow."""
    html = """<a href="/a">x</a><a href='b#top'>y</a><A HREF=/a>z</A><area href=" http://other/ "><link href="/css">
    <img src="/i.png"><a rel="NoFollow" href="/no">n</a><a href="mailto:a@b">m</a><a>no href</a><a href="">e</a>
    <!-- <a href="/commented">c</a> --><script>"<a href='/scripted'>"</script>"""
    assert page_links(html, URL) == {"http://h/a", "http://h/d/b", "http://other/"}


def test_base_and_nofollow() -> None:
    """<base> moves relative links; a robots meta element stops all."""
    assert page_links('<base href="/x/"><a href="y">y</a>', URL) == {"http://h/x/y"}
    assert page_links('<meta name="ROBOTS" content="index, NoFollow"><a href="y">y</a>', URL) == set()
    assert page_links('<meta name="robots" content="noindex"><a href="y">y</a>', URL) == {"http://h/d/y"}


def test_many_links_are_read_in_linear_time() -> None:
    """Stepping through the parser's collection would take a minute here."""
    started = time.thread_time()  # this thread's own work: what else the machine does is not counted
    assert len(page_links("".join(f'<a href="/{i}">x</a>' for i in range(20_000)), URL)) == 20_000
    assert time.thread_time() - started < 5


def test_sitemaps() -> None:
    """An index names sitemaps, a urlset pages; gzip, namespaces, CDATA and entities are understood."""
    index = (
        b'<?xml version="1.0"?><sitemapindex xmlns="x"><sitemap><loc> http://h/s1.xml </loc></sitemap></sitemapindex>'
    )
    assert sitemap_links(index, URL, 10_000) == ({"http://h/s1.xml"}, set())
    pages = b"<ns:urlset><url><ns:loc>http://h/?a=1&amp;b=2</ns:loc></url><url><loc><![CDATA[http://h/x]]></loc></url></ns:urlset>"
    assert sitemap_links(pages, URL, 10_000) == (set(), {"http://h/?a=1&b=2", "http://h/x"})
    assert sitemap_links(gzip.compress(pages), URL, 10_000) == sitemap_links(pages, URL, 10_000)


def test_what_is_no_sitemap_names_nothing() -> None:
    """HTML, entity bombs, broken gzip: nothing, and no error."""
    bomb = (
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><urlset><url><loc>http://h/&b;</loc></url></urlset>'
    )
    for body in (b"", b"<html><a href='/x'>", b"\x1f\x8b broken", gzip.compress(b"<urlset>")[:10]):
        assert sitemap_links(body, URL, 10_000) == (set(), set())
    assert sitemap_links(bomb, URL, 10_000) == (set(), {"http://h/&b"})


@pytest.mark.parametrize(
    ("value", "asks"),
    [
        ("nofollow", True),
        ("noindex, NoFollow", True),
        ("none", True),
        ("noindex nofollow", True),
        ("index, follow, max-image-preview:none", False),
        ("max-image-preview: none", False),
        ("max-image-preview : none, max-snippet:-1", False),
        ("max-image-preview:large, nofollow", True),
        ("unavailable_after: Sunday, 25 Jun 2028 15:00:00 GMT, nofollow", True),
        ("unavailable_after: 2028-06-25T15:00:00Z", False),
        ("otherbot: nofollow", False),
        ("otherbot: noindex, nofollow", False),
        ("otherbot: noindex, cpt-ray: nofollow", True),
        ("cpt-ray: none", True),
        ("CPT-Ray/1.0: nofollow", True),
        ("*: nofollow", True),
        ("cpt-ray: max-image-preview:none", False),
        ("cpt-ray: noindex, otherbot: nofollow", False),
        ("nonesuch, follow", False),
        ("", False),
    ],
)
def test_wishes_of_headers_and_metas(value: str, asks: bool) -> None:
    """Directives are told apart from their values, and ours from those for others."""
    assert nofollow([value]) is asks
    assert nofollow(["noarchive", value]) is asks
    if ":" not in value.partition(",")[0] or asks or "max-" in value:
        page = f'<meta name="robots" content="{value}"><a href="/a">a</a>'
        assert (page_links(page, URL) == set()) is asks


def test_a_meta_element_for_us_counts() -> None:
    """By our own name as by "robots"; another crawler's does not."""
    assert page_links('<meta name="CPT-Ray" content="nofollow"><a href="/a">a</a>', URL) == set()
    assert page_links('<meta name="otherbot" content="nofollow"><a href="/a">a</a>', URL) == {"http://h/a"}


def test_other_ways_to_another_page() -> None:
    """The canonical address, a refresh and frames lead on; sessions are left out; what is not followed is counted."""
    left_out: Counter[str] = Counter()
    html = """<link rel="Canonical" href="/canonical"><meta http-equiv="Refresh" content="5; URL='/next'">
    <iframe src="/frame"></iframe><a href="/a;jsessionid=1?utm_source=2">a</a><a rel="external nofollow" href="/no">n</a>
    <a rel="nofollowed" href="/yes">y</a><a rel="nofollow" href="/yes">y</a><a href="mailto:x@y">m</a><meta http-equiv="refresh" content="30">"""
    found = page_links(html, URL, left_out=left_out)
    assert found == {f"http://h/{name}" for name in ("canonical", "next", "frame", "a", "yes")}
    assert left_out == {"nofollow": 1, "no_page": 1, "too_many_links": 0}


def test_endless_links_end() -> None:
    """Of a page of too many links those at its top are followed."""
    left_out: Counter[str] = Counter()
    html = "".join(f'<a href="/{i}">' + "</a>" for i in range(MAX_LINKS + 7))
    assert len(page_links(html, URL, left_out=left_out)) == MAX_LINKS
    assert left_out["too_many_links"] == 7


def test_queries_in_the_charset_of_the_page() -> None:
    """As browsers send them."""
    assert page_links('<a href="/s?q=мир">', URL, charset="cp1251") == {"http://h/s?q=%EC%E8%F0"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("http://e/caf\xe9?q=1".encode(), "http://e/caf%C3%A9?q=1"),
        (b"/caf\xe9", "http://h/caf%E9"),
        ("/voilà".encode(), "http://h/voil%C3%A0"),
        ("http://faß.de/".encode(), "http://xn--fa-hia.de/"),
        (b"//other/x", "http://other/x"),
        (b"../up", "http://h/up"),
        (b"", None),
        (b"javascript:x()", None),
        (b"http://u:p@h/", None),
    ],
)
def test_redirects_by_their_bytes(raw: bytes, expected: str | None) -> None:
    """A Location is bytes: UTF-8 is UTF-8, all else is escaped as it is."""
    assert redirect_target(URL, raw.decode("latin-1")) == expected


SITEMAPS = [
    ("<urlset><!-- <url><loc>http://h/old</loc></url> --><url><loc>http://h/p</loc></url></urlset>", {"p"}),
    (
        "<urlset><url><loc>http://h/p</loc><image:image><image:loc>http://h/i.jpg</image:loc></image:image></url></urlset>",
        {"p"},
    ),
    ("<urlset><url><loc>http://h/p</loc><video:player_loc>http://h/v</video:player_loc></url></urlset>", {"p"}),
    ("<urlset><url><loc/><lastmod>2026</lastmod></url><url><loc></loc></url><url><loc> </loc></url></urlset>", set()),
    (
        "<s:urlset><s:url><s:loc>http://h/p</s:loc><i:image><i:loc>http://h/i</i:loc></i:image></s:url></s:urlset>",
        {"p"},
    ),
    ("<urlset><url><loc>/p</loc></url><url><loc>q</loc></url></urlset>", {"p", "d/q"}),
    ("<urlset><url><loc>\n http://h/p?a=1&amp;b=2 \n</loc></url></urlset>", {"p?a=1&b=2"}),
    ("<urlset><url><loc>http://h/p</url><url><loc>http://h/q</loc></url>", {"p", "q"}),
    ("<urlset><url><loc lang='en'>http://h/p</loc></url></urlset>", {"p"}),
    ("http://h/p\nhttp://h/q\r\n\nhttp://h/r", {"p", "q", "r"}),
    ("\ufeffhttp://h/p\n", {"p"}),
    (
        "<rss><channel><link>http://h/</link><item><link>http://h/p</link></item><item><link><![CDATA[http://h/q]]></link></item></channel></rss>",
        {"p", "q"},
    ),
    (
        '<feed><link href="http://h/"/><entry><link rel="alternate" href="http://h/p"/><link rel="edit" href="/e"/></entry></feed>',
        {"p"},
    ),
    ("<feed><entry><link href='http://h/q?a=1&amp;b=2'/></entry></feed>", {"q?a=1&b=2"}),
    (
        '<rdf:RDF><channel><link>http://h/</link></channel><item rdf:about="x"><link>http://h/p</link></item></rdf:RDF>',
        {"p"},
    ),
]


@pytest.mark.parametrize(("text", "names"), SITEMAPS)
def test_what_a_sitemap_names(text: str, names: set[str]) -> None:
    """Pages, not images, comments or nothing; XML, text and feeds; packed and in other encodings the same."""
    nothing: set[str] = set()
    expected = nothing, {f"http://h/{name}" for name in names}
    for body in (
        text.encode(),
        gzip.compress(text.encode()),
        gzip.compress(text[:20].encode()) + gzip.compress(text[20:].encode()),
    ):
        assert sitemap_links(body, URL, 10_000) == expected
    assert sitemap_links(text.removeprefix("\ufeff").encode("utf-16"), URL, 10_000) == expected


def test_sitemaps_of_other_encodings() -> None:
    """As the XML declaration says."""
    text = '<?xml version="1.0" encoding="windows-1251"?><urlset><url><loc>http://h/мир</loc></url></urlset>'
    assert sitemap_links(text.encode("cp1251"), URL, 10_000)[1] == {"http://h/%D0%BC%D0%B8%D1%80"}


@pytest.mark.parametrize("name", ["punycode", "zlib", "idna", "rot13", "no-such", "utf-7"])
def test_encodings_that_no_browser_knows_are_utf_8(name: str) -> None:
    """Python has some that are no encodings of text, and punycode's time grows with more than the square of a length."""
    urls = "".join(f"<url><loc>http://h/{number}</loc></url>" for number in range(20_000))
    body = f'<?xml version="1.0" encoding="{name}"?><urlset>{urls}</urlset>'.encode()
    started = time.thread_time()
    assert len(sitemap_links(body, URL, 10_000_000)[1]) == 20_000
    assert time.thread_time() - started < 10


def test_a_sitemap_cut_off_names_what_it_can() -> None:
    """Cut in transfer, damaged or too large: what stands before counts, and the cut is counted."""
    whole = ("<urlset>" + "".join(f"<url><loc>http://h/{i}</loc></url>" for i in range(5000)) + "</urlset>").encode()
    packed = gzip.compress(whole)
    damaged = packed[: len(packed) // 2] + b"\xff" * 40 + packed[len(packed) // 2 + 40 :]
    for body, most in (
        (packed[:-9], 10**6),
        (packed[: len(packed) // 2], 10**6),
        (damaged, 10**6),
        (packed, 10_000),
        (whole, 10_000),
    ):
        left_out: Counter[str] = Counter()
        pages = sitemap_links(body, URL, most, left_out=left_out)[1]
        assert 100 < len(pages) <= 5000
        assert left_out["truncated"] == 1
    left_out = Counter()
    assert sitemap_links(b"<html><a href='/x'>", URL, 100, left_out=left_out) == (set(), set())
    assert left_out["no_sitemap"] == 1


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<loc",
        "<loc>",
        "<loc><![CDATA[",
        "<item>",
        "<item><link ",
        "<link a",
        "<entry><link><![CDATA[",
        "a",
        " ",
    ],
)
def test_hostile_sitemaps_cost_no_time(piece: str) -> None:
    """Every pattern is linear, whatever is left open."""
    started = time.thread_time()  # this thread's own work: what else the machine does is not counted
    for root in ("<urlset>", "<rss>", "<feed><entry><link "):
        sitemap_links((root + piece * (400_000 // len(piece))).encode(), URL, 10**6)
    assert time.thread_time() - started < 5
