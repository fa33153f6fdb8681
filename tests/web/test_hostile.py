"""A server that means harm: every case ends within its limits, by name, and the crawl goes on."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cpt_ray.artifacts import Manifest
from tests.web.conftest import Asked, ok, serve_raw, status
from tests.web.test_crawl import counts, fetched, links

Crawl = Callable[..., Manifest]
NONE = status(404)
BOMB = gzip.compress(b"<p>x</p>" * 2_000_000)


async def dripping(first: bytes) -> AsyncIterator[bytes]:
    for byte in itertools.chain(first, itertools.cycle(b"x")):
        yield bytes([byte])
        await asyncio.sleep(0.05)


async def silence() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


async def pouring(first: bytes, more: bytes, times: int) -> AsyncIterator[bytes]:
    yield first
    for _ in range(times):
        yield more


HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
HOSTILE: dict[str, tuple[Callable[[Asked], bytes | AsyncIterator[bytes] | None], str]] = {
    "/slow-head": (lambda _: dripping(b"HTTP/1.1 200 OK\r\n"), "timeout"),
    "/slow-body": (lambda _: dripping(HTML + b"\r\n"), "timeout"),
    "/silent": (lambda _: silence(), "timeout"),
    "/closed": (lambda _: None, "connection_failed"),
    "/long-status": (lambda _: b"HTTP/1.1 200 " + b"O" * 1_000_000 + b"\r\n\r\n", "headers_too_long"),
    "/long-header": (lambda _: pouring(HTML + b"X: ", b"x" * 100_000, 100), "headers_too_long"),
    "/long-name": (lambda _: HTML + b"x" * 1_000_000 + b": 1\r\n\r\n", "headers_too_long"),
    "/many-headers": (lambda _: pouring(HTML, b"X-Y: z\r\n" * 1000, 100), "headers_too_long"),
    "/no-http": (lambda _: b"SSH-2.0-OpenSSH_9.9\r\n", "malformed_response"),
    "/bad-length": (lambda _: HTML + b"Content-Length: many\r\n\r\nx", "malformed_response"),
    "/negative-length": (lambda _: HTML + b"Content-Length: -5\r\n\r\nx", "malformed_response"),
    "/two-lengths": (lambda _: HTML + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nxxxxxxx", "malformed_response"),
    "/nul": (lambda _: HTML + b"X: a\x00b\r\n\r\nx", "malformed_response"),
    "/long-length": (lambda _: HTML + b"Content-Length: 9999\r\n\r\n<p>short", "incomplete_body"),
    "/bad-chunk": (lambda _: HTML + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "malformed_response"),
    "/no-last-chunk": (lambda _: HTML + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "incomplete_body"),
    "/huge-length": (lambda _: HTML + b"Content-Length: 99999999999\r\n\r\n<p>", "too_large"),
    "/endless": (lambda _: pouring(HTML + b"\r\n", b"<p>x</p>" * 1000, 10**9), "too_large"),
    "/bomb": (lambda _: ok(BOMB, "Content-Type: text/html\r\nContent-Encoding: gzip"), "too_large"),
    "/deflate-bomb": (
        lambda _: ok(zlib.compress(b"x" * 9_000_000), "Content-Type: text/html\r\nContent-Encoding: deflate"),
        "too_large",
    ),
    "/bomb-of-bombs": (
        lambda _: ok(gzip.compress(BOMB), "Content-Type: text/html\r\nContent-Encoding: gzip, gzip"),
        "too_large",
    ),
    "/endless-error": (lambda _: pouring(b"HTTP/1.1 404 No\r\n\r\n", b"x" * 10_000, 10**9), "status_404"),
    "/image": (lambda _: ok(b"\x89PNG", "Content-Type: image/png"), "content_type"),
    "/typeless": (lambda _: ok("<!doctype html><p>page", "Server: x"), "fetched"),
    "/typeless-packed": (lambda _: ok(gzip.compress(b"<html><p>page"), "Content-Encoding: gzip"), "fetched"),
    "/typeless-image": (lambda _: ok(b"\x89PNG\x00", "Server: x"), "content_type"),
    "/typeless-bomb": (lambda _: ok(BOMB, "Content-Encoding: gzip"), "content_type"),
    "/two-types": (lambda _: ok(headers="Content-Type: bogus\r\nContent-Type: text/html"), "fetched"),
    "/xhtml": (
        lambda _: ok('<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>', "Content-Type: text/xml"),
        "fetched",
    ),
    "/feed": (lambda _: ok("<rss><channel/></rss>", "Content-Type: application/xml"), "content_type"),
    "/metadata": (lambda _: status(302, "Location: http://169.254.169.254/latest/meta-data/"), "redirect"),
    "/metadata-6": (lambda _: status(302, "Location: http://[fd00:ec2::254]/"), "redirect"),
    "/decimal": (lambda _: status(302, "Location: http://2852039166/"), "redirect"),
    "/octal": (lambda _: status(302, "Location: http://0177.0.0.2/"), "redirect"),
    "/loopback": (lambda _: status(302, "Location: http://127.0.0.3/"), "redirect"),
    "/loopback-6": (lambda _: status(302, "Location: http://[::1]/"), "redirect"),
    "/mapped": (lambda _: status(302, "Location: http://[::ffff:10.0.0.1]/"), "redirect"),
    "/file": (lambda _: status(302, "Location: file:///etc/passwd"), "redirect"),
    "/nowhere": (lambda _: status(302), "redirect"),
    "/interim": (lambda _: pouring(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + ok(), b"", 0), "fetched"),
    "/nested": (lambda _: ok("<div>" * 100_000 + links("/unseen")), "fetched"),
    "/attributes": (lambda _: ok("<a " + " ".join(f"x{i}" for i in range(200_000)) + ">"), "fetched"),
    "/good": (
        lambda _: ok(links("/"), "Content-Type: text/html\r\nContent-Security-Policy: " + "x" * 13_000),
        "fetched",
    ),
}


def test_every_case_ends_by_name(run_crawl: Crawl, tmp_path: Path) -> None:
    """One page of each kind on one host; the good pages among them are fetched."""
    # Each is judged by itself: no host is given up for its neighbours on this server.
    names = {path: f"h{i}.example" for i, path in enumerate(HOSTILE)}

    def answer(asked: Asked) -> bytes | AsyncIterator[bytes] | None:
        return NONE if asked.path == "/robots.txt" else HOSTILE[asked.path][0](asked) if asked.path != "/" else NONE

    with serve_raw(answer) as site:
        manifest = run_crawl(
            site,
            seeds=tuple(f"http://{name}{path}" for path, name in names.items()),
            resolve=dict.fromkeys(names.values(), site.address),
            sitemaps=False, retries=0, timeout=4.0, max_bytes=5_000_000, scope="any",
        )  # fmt: skip
    expected = Counter(outcome for _, outcome in HOSTILE.values())
    private = sum(path.startswith(("/metadata", "/loopback", "/mapped", "/decimal", "/octal")) for path in HOSTILE)
    read, kept, dropped = counts(manifest)
    assert dropped.pop("private_address") == private
    assert dropped.pop("status_404") == 1 + 1  # and the "/" that the good page links to
    assert kept == expected.pop("fetched")
    expected.pop("status_404")
    assert dropped == expected
    assert read == len(HOSTILE) + private + 1
    asked = {asked.path for asked in site.asked}
    assert asked == {*HOSTILE, "/robots.txt", "/"}


def test_endless_redirects_and_links_end(run_crawl: Crawl) -> None:
    """Redirects in a row, a calendar, folders in folders, sessions: bounded, and every URL is counted."""

    def answer(asked: Asked) -> bytes:
        path, _, query = asked.path.partition("?")
        if path == "/robots.txt":
            return NONE
        if path == "/loop":
            return status(302, "Location: /loop")
        if path.startswith("/hop"):
            return status(307, f"Location: /hop{int(path[4:]) + 1}")
        if path.startswith("/deep"):
            return ok(links(asked.path + "/deep"))
        if path == "/calendar":
            return ok(links(*(f"/calendar?day={int(query[4:] or 0) * 3 + i}" for i in (1, 2, 3))))
        if path == "/session":
            return ok(links(f"/session?PHPSESSID={len(site.asked)}", f"/session;jsessionid={len(site.asked)}"))
        return ok(links("/loop", "/hop0", "/deep", "/calendar?day=", "/session"))

    with serve_raw(answer) as site:
        manifest = run_crawl(site, sitemaps=False, max_queries=20, max_redirects=3)
    read, kept, dropped = counts(manifest)
    paths = Counter(path.partition("?")[0].rstrip("0123456789") for path in site.paths())
    assert paths == {"/robots.txt": 1, "/": 1, "/loop": 1, "/hop": 4, "/calendar": 20, "/session": 1} | {
        "/deep" * i: 1 for i in range(1, 5)
    }
    assert dropped == {"redirect": 5, "too_many_redirects": 1, "repeating_path": 1, "too_many_queries": 41}
    assert read == kept + sum(dropped.values())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: dripping(b"HTTP/1.1 200 OK\r\n\r\n"), "robots_unreachable"),
        (lambda _: None, "robots_unreachable"),
        (lambda _: status(301, "Location: /robots.txt"), "robots_unreachable"),
        (lambda _: status(301), "robots_unreachable"),
        (lambda asked: status(302, f"Location: /robots.txt?{len(asked.path)}"), "robots_unreachable"),
        (lambda _: status(302, "Location: http://169.254.169.254/"), "private_address"),
        (lambda _: status(302, "Location: gopher://h/"), "robots_unreachable"),
        (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nUser-agent: *\nDisallow:", "robots_unreachable"),
        (lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "robots_unreachable"),
        (
            lambda _: ok(gzip.compress(b"User-agent: *\nDisallow: /")[:-9], "Content-Encoding: gzip"),
            "robots_unreachable",
        ),
        (lambda _: ok(BOMB * 2, "Content-Encoding: gzip, gzip"), "robots_unreachable"),
        (lambda _: ok(b"\x00\x01", "Content-Type: text/plain"), "robots_unreachable"),
        (lambda _: b"no http\r\n\r\n", "robots_unreachable"),
        (lambda _: pouring(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000, 1000), "robots_unreachable"),
        (lambda _: status(429), "robots_unreachable"),
        (lambda _: status(999), "robots_unreachable"),
    ],
)
def test_unknown_rules_close_the_site(run_crawl: Crawl, answer: Callable[[Asked], bytes | None], reason: str) -> None:
    """Whatever keeps us from knowing robots.txt, nothing but robots.txt is asked for."""
    with serve_raw(lambda asked: answer(asked) if asked.path.startswith("/robots.txt") else ok()) as site:
        manifest = run_crawl(site, retries=0, timeout=0.5)
    assert counts(manifest) == (1, 0, {reason: 1})
    assert {path.partition("?")[0] for path in site.paths()} == {"/robots.txt"}


def test_a_long_robots_is_read_to_its_limit(run_crawl: Crawl) -> None:
    """A robots.txt without end: its front holds (RFC 9309 section 2.5)."""

    def answer(asked: Asked) -> bytes | AsyncIterator[bytes]:
        if asked.path == "/robots.txt":
            return pouring(b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /x\n", b"# and so on\n" * 1000, 10**9)
        return ok(links("/x"))

    with serve_raw(answer) as site:
        manifest = run_crawl(site, sitemaps=False, max_bytes=100_000)
    assert counts(manifest) == (2, 1, {"robots": 1})


def test_a_seed_that_moved(run_crawl: Crawl, tmp_path: Path) -> None:
    """To www., to another scheme's name, to another host for good: the site is crawled; for now only: it is elsewhere."""

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt":
            return NONE
        if asked.host in ("e.example", "www.f.example"):
            other = {"e.example": "www.e.example", "www.f.example": "f.example"}[asked.host]
            return status(301, f"Location: http://{other}{asked.path}")
        if asked.host in ("old.example", "lent.example"):
            return status(308 if asked.host[0] == "o" else 302, "Location: http://new.example/home")
        return ok(links("/a", "/home"))

    names = ("e.example", "www.e.example", "f.example", "www.f.example", "old.example", "lent.example", "new.example")
    for seed, pages in (("e.example", 3), ("www.f.example", 3), ("old.example", 2), ("lent.example", 0)):
        for scope in ("host", "prefix"):
            name = f"{seed}-{scope}"
            with serve_raw(answer) as site:
                resolve = dict.fromkeys(names, site.address)
                manifest = run_crawl(
                    site, name, seeds=(f"http://{seed}/",), resolve=resolve, scope=scope, sitemaps=False
                )
            assert counts(manifest)[1] == pages, name
            assert len(fetched(f"{tmp_path}/{name}")) == pages


def test_sitemaps_of_every_kind(run_crawl: Crawl, tmp_path: Path) -> None:
    """Named by a path, on another host, moved, as text, as a feed, cut off; what names nothing is counted by reason."""
    xml = "Content-Type: application/xml"

    def answer(asked: Asked) -> bytes:
        site = {
            "/robots.txt": ok(
                "Sitemap: /index.xml\nSitemap: http://maps.example/text.txt\nSitemap: /gone.xml\nSitemap: /moved.xml\n"
                "Sitemap: /page.html\nUser-agent: *\nDisallow: /hidden\nSitemap: /hidden.xml\nSitemap: ftp://h/x\n",
                "Content-Type: text/plain",
            ),
            "/index.xml": ok("<sitemapindex><sitemap><loc>/cut.xml.gz</loc></sitemap></sitemapindex>", xml),
            "/cut.xml.gz": ok(
                gzip.compress(("<urlset><url><loc>/cut</loc></url>" + "".join(map(str, range(9999)))).encode())[:-50],
                "Content-Type: application/gzip",
            ),
            "/text.txt": ok("http://site.example/text\nhttp://maps.example/other\n", "Content-Type: text/plain"),
            "/moved.xml": status(301, "Location: http://maps.example/feed"),
            "/feed": ok("<rss><item><link>http://site.example/feed-page</link></item></rss>", xml),
            "/page.html": ok("<p>no map", xml),
        }
        if asked.path == "/robots.txt" and asked.host == "maps.example":
            return NONE
        return site.get(asked.path, NONE if "gone" in asked.path else ok())

    with serve_raw(answer) as site:
        manifest = run_crawl(site, resolve=dict.fromkeys(("site.example", "maps.example"), site.address))
    assert fetched(f"{tmp_path}/crawl") == [f"http://site.example/{name}" for name in ("", "cut", "feed-page", "text")]
    maps = manifest.balance.units["sitemaps"]
    assert (maps.read, maps.kept) == (8, 4)
    assert maps.dropped == {"no_sitemap": 1, "redirect": 1, "robots": 1, "status_404": 1}
    assert counts(manifest)[2] == {"out_of_scope": 1}
    assert manifest.extra["links_left_out"] == {"of_truncated_sitemaps": 1}


def test_images_in_sitemaps_are_no_pages(run_crawl: Crawl, tmp_path: Path) -> None:
    """They cost nothing of `max_pages`."""
    xml = "<urlset><url><loc>/a</loc><image:image><image:loc>/a.jpg</image:loc></image:image></url><url><loc>/b</loc></url></urlset>"

    def answer(asked: Asked) -> bytes:
        return (
            ok(xml, "Content-Type: text/xml")
            if asked.path == "/sitemap.xml"
            else NONE
            if asked.path == "/robots.txt"
            else ok()
        )

    with serve_raw(answer) as site:
        run_crawl(site, max_pages=3)
    assert fetched(f"{tmp_path}/crawl") == [f"http://site.example/{name}" for name in ("", "a", "b")]


def test_pages_that_ask_not_to_be_followed(run_crawl: Crawl) -> None:
    """By header or by element; the values of other directives ask for nothing."""

    def answer(asked: Asked) -> bytes:
        headers = {
            "/h": "X-Robots-Tag: otherbot: none\r\nX-Robots-Tag: noindex, nofollow",
            "/i": "X-Robots-Tag: max-image-preview:none",
        }
        extra = "\r\n" + headers[asked.path] if asked.path in headers else ""
        html = '<meta name=robots content="max-image-preview:none">' if asked.path == "/" else ""
        if asked.path == "/robots.txt":
            return NONE
        return ok(html + links("/h", "/i", f"/of{asked.path[1:]}"), "Content-Type: text/html" + extra)

    with serve_raw(answer) as site:
        manifest = run_crawl(site, sitemaps=False, max_depth=2)
    assert {"/h", "/i", "/of", "/ofi"} <= set(site.paths())
    assert "/ofh" not in site.paths()
    assert manifest.extra["links_left_out"] == {"of_nofollow_pages": 1}


def test_queries_go_out_in_the_charset_of_the_page(run_crawl: Crawl) -> None:
    """Declared by header, by element, by a mark that outweighs the header, or not at all: the charset that the page is read in."""

    def answer(asked: Asked) -> bytes:
        link = '<a href="/s?q=мир">x</a>' + "<p>Слова на русском языке, чтобы было видно кодировку.</p>" * 3
        pages = {
            "/robots.txt": NONE,
            "/": ok(links("/header", "/meta", "/utf8", "/mark", "/silent")),
            "/mark": ok("\ufeff" + link.replace("/s", "/4"), "Content-Type: text/html; charset=windows-1251"),
            "/silent": ok(link.replace("/s", "/5").encode("cp1251")),
            "/header": ok(link.replace("/s", "/1").encode("cp1251"), "Content-Type: text/html; charset=windows-1251"),
            "/meta": ok(("<meta charset=koi8-r>" + link.replace("/s", "/2")).encode("koi8-r")),
            "/utf8": ok(link.replace("/s", "/3")),
        }
        return pages.get(asked.path, ok())

    with serve_raw(answer) as site:
        run_crawl(site, sitemaps=False)
    utf8 = {f"/{n}?q=%D0%BC%D0%B8%D1%80" for n in (3, 4)}
    assert {"/1?q=%EC%E8%F0", "/2?q=%CD%C9%D2", "/5?q=%EC%E8%F0"} | utf8 <= set(site.paths())


def test_tls_that_fails_closes_the_site(run_crawl: Crawl) -> None:
    """A server that speaks no TLS where it should: its rules are not known, and that is no reason to ask it openly."""
    with serve_raw(lambda _: ok()) as site:
        manifest = run_crawl(site, seeds=("https://site.example/",), retries=0, timeout=2.0)
    assert counts(manifest) == (1, 0, {"robots_unreachable": 1})
    assert site.asked == []
