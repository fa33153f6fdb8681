"""A local web server whose behaviour a test writes down as a dictionary."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from cpt_ray.artifacts import Manifest, build
from cpt_ray.web.crawl import crawl
from cpt_ray.web.options import CrawlOptions

Answer = str | Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
HOST = "site.example"


@dataclass
class Site:
    address: str = ""
    requests: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)


@contextmanager
def serve(answers: Mapping[str, Answer]) -> Iterator[Site]:
    """Serve HTML by path, or whatever a coroutine answers; all else is 404."""
    site = Site()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        site.requests.append(request.path)
        site.agents.add(request.headers.get("User-Agent", ""))
        answer = answers.get(request.path)
        if answer is None:
            return web.Response(status=404)
        if isinstance(answer, str):
            kind = "text/plain" if request.path.endswith(".txt") else "text/html"
            kind = "application/xml" if request.path.endswith(".xml") else kind
            return web.Response(text=answer, content_type=kind)
        return await answer(request)

    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stopped = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stopped))
        runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.address = f"127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield site
    finally:
        ((loop, stopped),) = loops
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


@pytest.fixture
def run_crawl(tmp_path: object) -> Callable[..., Manifest]:
    """Crawl the local site as http://site.example/ into `<tmp>/<name>`, quickly."""

    def run(
        site: Site, name: str = "crawl", *, resolve: Mapping[str, str] | None = None, **changes: object
    ) -> Manifest:
        values: dict[str, object] = {
            "seeds": (f"http://{HOST}/",),
            "allow_private": ("127.0.0.1/32",),
            "delay": 0.0,
            "backoff": 0.01,
            **changes,
        }
        options = CrawlOptions(**values)  # type: ignore[arg-type]
        with build(f"{tmp_path}/{name}", step="crawl", version=1, params=options) as work:
            return crawl(options, work, resolve={HOST: site.address} if resolve is None else resolve)

    return run
