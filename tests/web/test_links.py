"""Links of pages and sitemaps."""

from __future__ import annotations

import gzip
import time

from cpt_ray.web.links import page_links, sitemap_links

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
