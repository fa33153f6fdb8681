"""The crawler against a web server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from cpt_ray import __version__
from cpt_ray.artifacts import Manifest
from cpt_ray.errors import UserError
from cpt_ray.web.archive import read_archive
from cpt_ray.web.warc import committed, segments
from tests.web.conftest import HOST, serve

Crawl = Callable[..., Manifest]


def links(*to: str) -> str:
    return "".join(f'<p><a href="{path}">x</a></p>' for path in to)


def fetched(path: str) -> list[str]:
    """URLs of the pages in an archive, sorted, with repetitions."""
    records = [r for segment in segments(path) for r in read_archive(segment)]
    assert all(r.reason is None for r in records)
    return sorted(r.url for r in records if r.kind == "response" and r.status == 200 and r.content_type == "text/html")


def counts(manifest: Manifest) -> tuple[int, int, dict[str, int]]:
    urls = manifest.balance.check("crawl").units["urls"]
    return urls.read, urls.kept, dict(urls.dropped)


def test_links_and_sitemaps_are_followed_and_robots_honoured(run_crawl: Crawl, tmp_path: Path) -> None:
    """Everything reachable is fetched once; what robots.txt forbids is not even asked for; every URL is accounted for."""
    site = {
        "/robots.txt": f"User-agent: *\nDisallow: /private/\nCrawl-delay: 0\nSitemap: http://{HOST}/map.xml\n",
        "/map.xml": f"<sitemapindex><loc>http://{HOST}/inner.xml</loc></sitemapindex>",
        "/inner.xml": f"<urlset><loc>http://{HOST}/alone</loc><loc>http://{HOST}/private/b</loc></urlset>",
        "/": links("/a", "/a#part", "/private/a", "http://elsewhere.example/", "/gone"),
        "/a": links("/", "b?q=1"),
        "/b": "<p>b</p>",
        "/alone": "<p>only the sitemap names this</p>",
        "/private/a": "secret",
        "/private/b": "secret",
    }
    with serve(site) as served:
        manifest = run_crawl(served, contact="me@example.org")
    assert fetched(f"{tmp_path}/crawl") == [f"http://{HOST}{path}" for path in ("/", "/a", "/alone", "/b?q=1")]
    assert not [path for path in served.requests if path.startswith("/private")]
    assert max(Counter(served.requests).values()) == 1
    assert counts(manifest) == (8, 4, {"out_of_scope": 1, "robots": 2, "status_404": 1})
    assert served.agents == {f"cpt-ray/{__version__} (+me@example.org)"}
    assert manifest.rows == 4


@pytest.mark.parametrize("status", [500, 503, 429])
def test_unreadable_robots_close_the_site(run_crawl: Crawl, status: int) -> None:
    """When the rules cannot be had nothing else is asked for (RFC 9309 section 2.3.1.4)."""

    async def broken(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status)

    with serve({"/robots.txt": broken, "/": "x"}) as served:
        manifest = run_crawl(served, retries=1)
    assert set(served.requests) == {"/robots.txt"}
    assert counts(manifest) == (1, 0, {"robots_unreachable": 1})


def test_robots_are_followed_through_redirects(run_crawl: Crawl) -> None:
    """A redirected robots.txt counts; one that redirects for ever closes the site."""

    async def moved(request: web.BaseRequest) -> web.Response:
        return web.Response(status=301, headers={"Location": "/rules.txt"})

    async def forever(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/robots.txt"})

    with serve(
        {"/robots.txt": moved, "/rules.txt": "User-agent: *\nDisallow: /x", "/": links("/x"), "/x": ""}
    ) as served:
        assert counts(run_crawl(served)) == (2, 1, {"robots": 1})
    with serve({"/robots.txt": forever, "/": "x"}) as served:
        assert counts(run_crawl(served, "again")) == (1, 0, {"robots_unreachable": 1})


def test_private_addresses_are_refused(run_crawl: Crawl) -> None:
    """Without permission no connection is made: not to a name that maps to loopback, not to an address, not by redirect."""

    async def inward(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.0.0.2:9/secret"})

    with serve({"/": "x"}) as served:
        manifest = run_crawl(served, allow_private=(), contact="me@example.org", retries=0)
        assert served.requests == []
        assert counts(manifest) == (1, 0, {"private_address": 1})
        # named by its address, robots.txt is refused too, so the host stays closed
        manifest = run_crawl(
            served,
            "by_address",
            seeds=(f"http://{served.address}/",),
            allow_private=(),
            contact="me@example.org",
            retries=0,
        )
        assert served.requests == []
        assert counts(manifest)[1] == 0
    with serve({"/": links("/in"), "/in": inward}) as served:
        manifest = run_crawl(served, "redirected", scope="any", retries=0)
        assert counts(manifest) == (3, 1, {"redirect": 1, "private_address": 1})


def test_redirects_and_their_loops(run_crawl: Crawl, tmp_path: Path) -> None:
    """A redirect is on record and its target fetched once; loops and endless chains end."""

    def to(where: str) -> Callable[[web.BaseRequest], object]:
        async def answer(_: web.BaseRequest) -> web.Response:
            return web.Response(status=301, headers={"Location": where})

        return answer

    site = {"/": links("/old", "/loop1", "/self", "/r0"), "/old": to("/new"), "/new": "<p>new</p>"}
    site |= {"/loop1": to("/loop2"), "/loop2": to("/loop1"), "/self": to("/self")}
    site |= {f"/r{i}": to(f"/r{i + 1}") for i in range(50)}
    with serve(site) as served:
        manifest = run_crawl(served)
    assert fetched(f"{tmp_path}/crawl") == [f"http://{HOST}/", f"http://{HOST}/new"]
    # old, loop1, loop2, self, r0 .. r5; r6 is the sixth in a row
    assert counts(manifest) == (13, 2, {"redirect": 10, "too_many_redirects": 1})
    assert "/r6" not in served.requests


def test_limits(run_crawl: Crawl) -> None:
    """Large, slow, broken and non-HTML answers are dropped by name, and the crawl goes on."""

    async def large(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        for _ in range(50):
            await response.write(b"x" * 10_000)
        return response

    async def declared(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * 200_000, content_type="text/html")

    async def slow(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(3600)  # until the server is stopped
        return web.Response()

    async def image(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x", content_type="image/png")

    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "text/html"})
        await response.prepare(request)
        await response.write(b"part")
        assert request.transport is not None
        request.transport.close()
        return response

    site = {"/": links("/large", "/declared", "/slow", "/image", "/cut", "/fine"), "/fine": "<p>fine</p>"}
    site |= {"/large": large, "/declared": declared, "/slow": slow, "/image": image, "/cut": cut}
    with serve(site) as served:
        # Only /slow may take so long, however busy the machine is.
        manifest = run_crawl(served, max_bytes=100_000, timeout=5.0, retries=0, per_host=8)
    expected = {"content_type": 1, "incomplete_body": 1, "timeout": 1, "too_large": 2}
    assert counts(manifest) == (7, 2, expected)


def test_try_later_is_honoured(run_crawl: Crawl) -> None:
    """503 with Retry-After: the wait is kept, then the page is fetched; what stays unavailable is dropped at last."""
    asked: list[float] = []

    async def later(request: web.BaseRequest) -> web.Response:
        asked.append(time.monotonic())
        if len(asked) < 2:
            return web.Response(status=503, headers={"Retry-After": "1"})
        return web.Response(text="<p>here</p>", content_type="text/html")

    async def never(request: web.BaseRequest) -> web.Response:
        return web.Response(status=429)

    with serve({"/": links("/later", "/never"), "/later": later, "/never": never}) as served:
        manifest = run_crawl(served, retries=2)
    assert counts(manifest) == (3, 2, {"status_429": 1})
    assert asked[1] - asked[0] >= 1.0
    assert served.requests.count("/never") == 3


def test_delay_between_requests(run_crawl: Crawl) -> None:
    """Requests to one host start at least `delay` apart; a stated Crawl-delay takes its place."""
    pages = {f"/{i}": "x" for i in range(5)}
    started = time.monotonic()
    with serve({"/": links(*pages), **pages}) as served:
        run_crawl(served, delay=0.2, sitemaps=False, per_host=4)
    assert time.monotonic() - started >= 1.0
    with serve({"/robots.txt": "User-agent: *\nCrawl-delay: 120", "/": "x"}) as served:
        assert counts(run_crawl(served, "slow")) == (1, 0, {"crawl_delay_too_long": 1})


@pytest.mark.parametrize("limit", [1000, 17])
def test_concurrency_does_not_show(run_crawl: Crawl, tmp_path: Path, limit: int) -> None:
    """The same pages one by one and twelve at a time, with and without a limit on pages."""
    rng = random.Random(7)
    paths = [f"/{i}" for i in range(60)]

    def answer(body: str) -> Callable[[web.BaseRequest], object]:
        async def respond(request: web.BaseRequest) -> web.Response:
            await asyncio.sleep(rng.random() / 200)
            return web.Response(text=body, content_type="text/html")

        return respond

    site = {"/": answer(links(*paths[:5]))} | {path: answer(links(*rng.sample(paths, 3))) for path in paths}
    found = []
    for name, width in (("one", 1), ("many", 12)):
        with serve(site) as served:
            manifest = run_crawl(served, name, max_pages=limit, per_host=width, sitemaps=False)
        found.append((fetched(f"{tmp_path}/{name}"), counts(manifest)))
    assert found[0] == found[1]
    assert 10 < len(found[0][0]) <= limit


CHILD = """
import json, sys
from cpt_ray.artifacts import build
from cpt_ray.web.crawl import CrawlOptions, crawl
path, address, values = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options = CrawlOptions(**values)
with build(path, step="crawl", version=1, params=options) as work:
    if not work.done:
        crawl(options, work, resolve={"site.example": address})
"""


def pages_of(requests: list[str]) -> list[str]:
    return [path for path in requests if path not in ("/robots.txt", "/sitemap.xml")]


def test_kill_and_resume(tmp_path: Path) -> None:
    """SIGKILL at random moments: in the end every page is in the archive once, and next to none was fetched twice."""
    rng = random.Random(time.time_ns())
    paths = [f"/{i}" for i in range(300)]
    moments = sorted(rng.sample(range(10, 290), 3))  # in pages asked for, over all attempts; fewer than there are
    children: list[subprocess.Popen[bytes]] = []
    killed: list[int] = []

    async def page(request: web.BaseRequest) -> web.Response:
        # The server kills, before it answers: no crawl ends early while a busy machine looks elsewhere.
        due = sum(moment <= len(pages_of(served.requests)) for moment in moments) > len(killed)
        if due and len(killed) < len(children):
            killed.append(children[-1].pid)
            children[-1].kill()
        await asyncio.sleep(0.002)
        i = int(request.path[1:] or 0)
        body = links(f"/{(2 * i + 1) % 300}", f"/{(2 * i + 2) % 300}", f"/{(i + 7) % 300}") + f"<p>{i}</p>" * 50
        return web.Response(text=body, content_type="text/html")

    values = {
        "seeds": [f"http://{HOST}/"],
        "allow_private": ["127.0.0.1/32"],
        "delay": 0,
        "per_host": 4,
        "segment_records": 40,
    }
    path = str(tmp_path / "crawl")
    with serve({"/": page, **dict.fromkeys(paths, page)}) as served:
        while not os.path.exists(f"{path}/manifest.json"):
            children.append(subprocess.Popen([sys.executable, "-c", CHILD, path, served.address, json.dumps(values)]))
            assert children[-1].wait(60) in (0, -9)
    assert [child.returncode for child in children] == [-9] * len(moments) + [0], moments
    assert fetched(path) == sorted(f"http://{HOST}/{i}" for i in ["", *range(300)])
    groups = [group.url for segment in segments(path) for group in committed(segment)]
    assert len(groups) == len(set(groups))
    assert len(pages_of(served.requests)) <= 301 + len(moments) * 4
    assert all(not name.endswith(".open") for name in os.listdir(path))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"seeds": ()}, "seeds"),
        ({"seeds": ("ftp://x/",)}, "seeds"),
        ({"allow_private": ()}, "contact"),
        ({"allow_private": ("localhost",)}, "allow_private"),
    ],
)
def test_impossible_options_say_what_to_do(run_crawl: Crawl, changes: dict[str, object], where: str) -> None:
    """Before anything is requested, with the key and the fix."""
    with serve({"/": "x"}) as served, pytest.raises(UserError) as caught:
        run_crawl(served, **changes)
    assert caught.value.where == where
    assert caught.value.fix
    assert served.requests == []
