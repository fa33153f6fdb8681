"""A small HTTP server on loopback for a rendered site."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from cpt_ray.artifacts import read_table
from cpt_ray.installed.site import robots_txt, sitemaps

LOOPBACK = "127.0.0.1"


@dataclass
class Served:
    """A running server: `address` is "127.0.0.1:<port>", `requests` every path asked for, in order of arrival."""

    address: str
    requests: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """Where this process reaches the site. The site's own links use its host name; see crawl option `resolve`."""
        return f"http://{self.address}"


@contextmanager
def serve_site(path: str, port: int = 0) -> Iterator[Served]:
    """Serve the published pages artifact at `path`, its robots.txt and sitemaps, while the context lasts."""
    table = read_table(path, ["path", "html"])
    names = table["path"].to_pylist()
    with serve_pages(dict(zip(names, table["html"].to_pylist(), strict=True)), port) as served:
        yield served


@contextmanager
def serve_pages(pages: dict[str, str], port: int = 0) -> Iterator[Served]:
    """Serve HTML pages by path. Loopback only; `port` 0 takes a free one, so two runs never collide."""
    html = "text/html; charset=utf-8"
    content = {path: (body.encode(), html) for path, body in pages.items()}
    content |= {path: (body.encode(), "application/xml") for path, body in sitemaps(list(pages)).items()}
    content["/robots.txt"] = (robots_txt().encode(), "text/plain; charset=utf-8")
    served = Served("")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        served.requests.append(request.path)
        found = content.get(request.path)
        if found is None:
            return web.Response(status=404, text="no such page\n")
        return web.Response(body=found[0], headers={"Content-Type": found[1]})

    ready = threading.Event()
    failed: list[OSError] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, port).start()
            served.address = f"{LOOPBACK}:{runner.addresses[0][1]}"
            ready.set()
            await stopped.wait()
        except OSError as error:
            failed.append(error)
        finally:
            ready.set()
            await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="site-server", daemon=True)
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    try:
        yield served
    finally:
        stop[0]()
        thread.join()
