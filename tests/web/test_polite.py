"""What a host sees in its own log: distances, requests at once, patience; and that sick hosts hold up no other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cpt_ray.artifacts import Manifest
from cpt_ray.web.options import CrawlOptions
from cpt_ray.web.pace import GIVE_UP, retry_after
from tests.web.conftest import Asked, RawSite, ok, serve_raw, status
from tests.web.test_crawl import CHILD, counts, fetched, links

Crawl = Callable[..., Manifest]
NONE = status(404)


def hosts(site: RawSite, *names: str) -> dict[str, object]:
    return {"resolve": dict.fromkeys(names, site.address), "seeds": tuple(f"http://{name}/" for name in names)}


def test_distance_and_requests_at_once(run_crawl: Crawl) -> None:
    """No host is asked within `delay` of its last answer, robots.txt and redirects included, nor for what is disallowed."""
    names = [f"h{i}.example" for i in range(4)]

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt":
            return ok("User-agent: *\nDisallow: /private\n", "Content-Type: text/plain")
        if asked.path == "/moved":
            return status(302, "Location: /3")
        return ok(links("/1", "/2", "/moved", "/private/x") if asked.path == "/" else "<p>x</p>")

    with serve_raw(answer, keep_alive=True) as site:
        manifest = run_crawl(site, **hosts(site, *names), delay=0.1, per_host=3, concurrency=5, sitemaps=False)
    assert counts(manifest) == (24, 16, {"redirect": 4, "robots": 4})
    for name in names:
        assert sorted(site.paths(name)) == ["/", "/1", "/2", "/3", "/moved", "/robots.txt"]
        assert min(site.distances(name)) >= 0.1
        assert site.most_at_once[name] <= 3


@pytest.mark.parametrize("keep_alive", [True, False])
def test_retries_keep_the_crawl_delay(run_crawl: Crawl, keep_alive: bool) -> None:
    """A lost connection, a kept one that turns out to be closed, a 500, a body cut short: each retry keeps the distance."""

    def answer(asked: Asked) -> bytes | None:
        if asked.path == "/robots.txt":
            return ok("User-agent: *\nCrawl-delay: 0.3\n", "Content-Type: text/plain")
        match asked.before:
            case 0:
                return None
            case 1:
                return status(500)
            case 2:
                return ok("<p>cut", "Content-Type: text/html\r\nX: y").replace(b"Length: 6", b"Length: 99")[:-1]
            case _:
                return ok()

    with serve_raw(answer, keep_alive=keep_alive) as site:
        manifest = run_crawl(site, sitemaps=False, delay=0, per_host=4, timeout=1.0)
    assert counts(manifest) == (1, 1, {})
    assert site.paths() == ["/robots.txt", "/", "/", "/", "/"]
    assert min(site.distances("site.example")) >= 0.3


def test_a_kept_connection_that_is_closed(run_crawl: Crawl) -> None:
    """aiohttp would ask again at once, unseen; every request is counted and keeps the distance, and no host is blamed."""

    def answer(asked: Asked) -> bytes | None:
        if asked.path == "/robots.txt":
            return NONE
        if asked.path == "/":
            return ok(links("/x"))
        return None if asked.before == 0 else ok()

    with serve_raw(answer, keep_alive=True) as site:
        manifest = run_crawl(site, sitemaps=False, retries=0, delay=0.2, backoff=60.0)
    assert site.paths() == ["/robots.txt", "/", "/x", "/x"]
    assert min(site.distances("site.example")) >= 0.2
    assert manifest.extra["requests"] == 4


def test_try_later_slows_the_host_as_a_whole(run_crawl: Crawl) -> None:
    """After a 429 or 503 nothing is asked of the host before Retry-After is over, whatever the URL."""

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt":
            return NONE
        if asked.path == "/2" and asked.before < 2:
            return status(429 if asked.before else 503, "Retry-After: 1")
        return ok(links(*(f"/{i}" for i in range(6))) if asked.path == "/" else "<p>x</p>")

    with serve_raw(answer) as site:
        manifest = run_crawl(site, sitemaps=False, per_host=1)
    assert counts(manifest)[1] == 7
    times = {i: asked.at for i, asked in enumerate(site.asked)}
    refused = [i for i, asked in enumerate(site.asked) if asked.path == "/2"][:2]
    assert [times[i + 1] - times[i] >= 1.0 for i in refused] == [True, True]


def test_sick_hosts_hold_up_no_other(run_crawl: Crawl) -> None:
    """Hosts that ask for patience, answer never, or have no robots.txt yet: they recover only once another one's crawl is
    over, so that it could not wait for them."""
    sick = [f"sick{i}.example" for i in range(6)]

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(3600)
        yield b""

    def answer(asked: Asked) -> bytes | AsyncIterator[bytes]:
        if asked.host == "well.example":
            return NONE if asked.path == "/robots.txt" else ok(links(f"/{len(asked.path)}{asked.path[1:]}"))
        if len(site.paths("well.example")) < 10:
            if asked.host in ("sick1.example", "sick2.example"):
                return status(503, "Retry-After: 1")
            if asked.path != "/robots.txt":
                return never() if asked.host == "sick0.example" else status(503, "Retry-After: 1")
        return NONE if asked.path == "/robots.txt" else ok(links("/more"))

    with serve_raw(answer) as site:
        manifest = run_crawl(
            site, **hosts(site, *sick, "well.example"), sitemaps=False, concurrency=2, timeout=2.0, max_depth=8, retries=60,
            backoff=0.1, max_wait=1.0,
        )  # fmt: skip
    assert len(site.paths("well.example")) == 10
    assert counts(manifest) == (9 + 1 + 2 * 6, 9 + 2 * 6, {"max_depth": 1})


def test_robots_are_asked_for_again_later_in_the_run(run_crawl: Crawl) -> None:
    """Rules that cannot be had are asked for once more when the other hosts are done; then the host is crawled."""

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt" and asked.host == "late.example":
            return status(502) if asked.before < 2 else NONE
        return NONE if asked.path == "/robots.txt" else ok(links("/1") if asked.path == "/" else "x")

    with serve_raw(answer) as site:
        manifest = run_crawl(site, **hosts(site, "late.example", "well.example"), sitemaps=False, retries=1)
    assert counts(manifest) == (4, 4, {})
    asked = [(asked.host, asked.path) for asked in site.asked]
    assert asked.index(("well.example", "/1")) < asked.index(("late.example", "/"))


def test_a_host_that_is_down_is_given_up(run_crawl: Crawl) -> None:
    """It costs a few attempts, not one for every page; what asks for more patience than we have is not asked again."""

    def down(asked: Asked) -> bytes:
        if asked.path in ("/robots.txt", "/"):
            return NONE if asked.path == "/robots.txt" else ok(links(*(f"/{i}" for i in range(30))))
        return status(503)

    with serve_raw(down) as site:
        manifest = run_crawl(site, sitemaps=False, retries=1, per_host=1, backoff=0.001)
    assert counts(manifest) == (31, 1, {"host_given_up": 30 - GIVE_UP, "status_503": GIVE_UP})
    assert len(site.asked) == 2 + 2 * GIVE_UP

    def away(asked: Asked) -> bytes:
        return status(503, "Retry-After: 3600") if asked.path == "/1" else down(asked)

    with serve_raw(away) as site:
        manifest = run_crawl(site, "away", sitemaps=False, per_host=1)
    assert site.paths() == ["/robots.txt", "/", "/0", "/0", "/0", "/0", "/1"]
    assert counts(manifest) == (31, 1, {"host_given_up": 28, "status_503": 2})


@pytest.mark.parametrize("code", [500, 502, 504, 520, 408])
def test_errors_that_pass_are_tried_again(run_crawl: Crawl, code: int) -> None:
    """Of a page and of robots.txt; 501 and 404 are not."""

    def answer(asked: Asked) -> bytes:
        if asked.path == "/never":
            return status(501)
        if asked.before == 0:
            return status(code)
        return NONE if asked.path == "/robots.txt" else ok(links("/never"))

    with serve_raw(answer) as site:
        assert counts(run_crawl(site, sitemaps=False)) == (2, 1, {"status_501": 1})
    assert site.paths() == ["/robots.txt", "/robots.txt", "/", "/", "/never"]


def test_how_one_asks_is_no_part_of_what_is_crawled() -> None:
    """A crawl goes on when these change."""
    how = {
        "shards": 4,
        "concurrency": 1,
        "per_host": 1,
        "delay": 9.0,
        "timeout": 9.0,
        "retries": 9,
        "backoff": 9.0,
        "max_wait": 9.0,
    }
    assert CrawlOptions(**how).result() == CrawlOptions().result()  # type: ignore[arg-type]
    assert CrawlOptions(max_delay=9).result() != CrawlOptions().result()


@pytest.mark.parametrize("width", [1, 4])
def test_sickness_does_not_show_in_what_is_crawled(run_crawl: Crawl, tmp_path: Path, width: int) -> None:
    """With a limit on pages the same are taken, whatever ran at once and however quickly a host recovered."""

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt":
            return NONE
        if asked.path in ("/1", "/4") and asked.host == "a.example" and asked.before == 0:
            return status(503, "Retry-After: 0") if asked.path == "/1" else status(500)
        name = asked.path.strip("/")
        return ok(links(*(f"/{name}{i}" for i in range(5))))

    with serve_raw(answer) as site:
        run_crawl(
            site,
            f"w{width}",
            **hosts(site, "a.example", "b.example", "c.example"),
            sitemaps=False,
            max_pages=60,
            per_host=width,
            backoff=0.01 * width,
        )
    pages = fetched(f"{tmp_path}/w{width}")
    of = {host: sum(url.startswith(f"http://{host}.") for url in pages) for host in "abc"}
    assert len(pages) == 60
    # a's first level is put off until b and c have none left within the limit: 3 seeds, 15 pages, then b and c alone
    assert of == {"a": 6, "b": 31, "c": 23}


def test_a_killed_crawl_goes_where_the_undisturbed_one_goes(run_crawl: Crawl, tmp_path: Path) -> None:
    """A redirect in raw UTF-8, a moved seed, a page that was late: after a kill the same pages, and none twice."""
    children: list[subprocess.Popen[bytes]] = []

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt":
            return NONE
        if asked.path == "/":
            return ok(links("/r", "/late", "/last"))
        if asked.path == "/r":
            return b"HTTP/1.1 302 Found\r\nLocation: http://site.example/voil\xc3\xa0?q=1\r\nContent-Length: 0\r\n\r\n"
        if asked.path == "/late" and asked.before == 0:
            return status(503)
        if asked.path == "/voil%C3%A0?q=1" and asked.before == 0 and children:
            children[-1].kill()
        return ok()

    with serve_raw(answer) as site:
        run_crawl(site, "whole", sitemaps=False)
    path = str(tmp_path / "killed")
    values = {
        "seeds": ["http://site.example/"],
        "allow_private": ["127.0.0.1/32"],
        "delay": 0,
        "backoff": 0.01,
        "sitemaps": False,
    }
    with serve_raw(answer) as site:
        for code in (-9, 0):
            children.append(subprocess.Popen([sys.executable, "-c", CHILD, path, site.address, json.dumps(values)]))
            assert children[-1].wait(60) == code
    assert fetched(path) == fetched(f"{tmp_path}/whole")
    assert "http://site.example/voil%C3%A0?q=1" in fetched(path)
    assert site.paths().count("/r") == 1


def test_retry_after() -> None:
    """Seconds or a date (RFC 9110 section 10.2.3); nonsense asks for nothing."""
    assert retry_after("120") == 120
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 600))
    assert 500 < retry_after(later) <= 600
    for nonsense in ("", "soon", "-1", "1e9", "²", "Wed, 99 Oct 99999 07:28:00 GMT"):
        assert retry_after(nonsense) == 0


def test_sitemaps_of_a_sick_host_are_read_in_the_end(run_crawl: Crawl, tmp_path: Path) -> None:
    """robots.txt late, the sitemap late, its page late: all is read, and counted once."""

    def answer(asked: Asked) -> bytes:
        if asked.before == 0 and asked.path != "/":
            return status(503)
        site = {
            "/robots.txt": ok("Sitemap: /index.xml\n", "Content-Type: text/plain"),
            "/index.xml": ok(
                "<sitemapindex><sitemap><loc>/map.xml</loc></sitemap></sitemapindex>", "Content-Type: text/xml"
            ),
            "/map.xml": ok("<urlset><url><loc>/a</loc></url></urlset>", "Content-Type: text/xml"),
            "/a": ok(links("/b")),
        }
        return site.get(asked.path, ok())

    with serve_raw(answer) as site:
        manifest = run_crawl(site, backoff=0.001)
    assert fetched(f"{tmp_path}/crawl") == [f"http://site.example/{name}" for name in ("", "a", "b")]
    assert counts(manifest) == (3, 3, {})
    maps = manifest.balance.units["sitemaps"]
    assert (maps.read, maps.kept, dict(maps.dropped)) == (2, 2, {})


@pytest.mark.slow
def test_twenty_hosts_and_a_thousand_pages(run_crawl: Crawl) -> None:
    """Zero violations in the hosts' own log: of what is disallowed, of the delay, of requests at once, retries included."""
    names = [f"h{i}.example" for i in range(20)]

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt":
            return ok("User-agent: *\nDisallow: /private\nDisallow: /*?\n", "Content-Type: text/plain")
        if asked.path.endswith("7") and asked.before == 0:
            return status(503)
        number = int(asked.path[1:] or 0)
        more = [f"/{n}" for n in range(7 * number + 1, 7 * number + 8) if n < 50]
        return ok(links(*more, "/private/x", f"/{number}?again=1"))

    with serve_raw(answer, keep_alive=True) as site:
        manifest = run_crawl(site, **hosts(site, *names), delay=0.1, per_host=2, concurrency=32, sitemaps=False)
    assert counts(manifest) == (20 * (50 + 1 + 50), 1000, {"robots": 20 * 51})
    assert not [asked for asked in site.asked if "private" in asked.path or "?" in asked.path]
    for name in names:
        assert min(site.distances(name)) >= 0.1
        assert site.most_at_once[name] <= 2
    waits = sorted(distance for name in names for distance in site.distances(name))
    print(f"\n{len(site.asked)} requests to {len(names)} hosts, {len(waits)} distances, the least {waits[0]:.4f} s")
