"""A local web server whose behaviour a test writes down as a dictionary."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ssl import SSLContext

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
def in_a_thread(server: AbstractAsyncContextManager[None]) -> Iterator[None]:
    """Enter `server` on an event loop of its own, and leave it there in the end."""
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stopped = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stopped))
        async with server:
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        ((loop, stopped),) = loops
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


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

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.address = f"127.0.0.1:{runner.addresses[0][1]}"
        yield
        await runner.cleanup()

    with in_a_thread(running()):
        yield site


@dataclass
class Asked:
    """One request as it stands in a server's own log: seconds, Host and target, and how often the target came before."""

    at: float
    host: str
    path: str
    before: int


@dataclass
class RawSite:
    """A server that sends exactly the bytes it is told; `most_at_once` requests were under way to each host."""

    address: str = ""
    asked: list[Asked] = field(default_factory=list)
    most_at_once: Counter[str] = field(default_factory=Counter)
    under_way: Counter[str] = field(default_factory=Counter)

    def paths(self, host: str = "") -> list[str]:
        return [asked.path for asked in self.asked if host in ("", asked.host)]

    def distances(self, host: str) -> list[float]:
        times = [asked.at for asked in self.asked if asked.host == host]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


RawAnswer = Callable[[Asked], bytes | AsyncIterator[bytes] | None]
"""The bytes of an answer, whole or piece by piece; the connection is then closed. None closes it without a word."""


def ok(body: str | bytes = "<p>page</p>", headers: str = "Content-Type: text/html") -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 200 OK\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def status(code: int, headers: str = "") -> bytes:
    lines = f"{headers}\r\n" if headers else ""
    return f"HTTP/1.1 {code} Whatever\r\n{lines}Content-Length: 0\r\n\r\n".encode()


@contextmanager
def serve_raw(answer: RawAnswer, *, keep_alive: bool = False, ssl: SSLContext | None = None) -> Iterator[RawSite]:
    """Serve bytes. Errors of a client that has gone are nobody's."""
    site = RawSite()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path, host = head.split()[1], head.lower().split("host: ")[1].split("\r")[0]
                asked = Asked(time.monotonic(), host, path, site.paths(host).count(path))
                site.asked.append(asked)
                site.under_way[host] += 1
                site.most_at_once[host] = max(site.most_at_once[host], site.under_way[host])
                try:
                    data = answer(asked)
                    if isinstance(data, bytes):
                        close = b"\r\n" if keep_alive else b"\r\nConnection: close\r\n"
                        writer.write(data.replace(b"\r\n", close, 1))
                    elif data is None:
                        return
                    else:
                        async for piece in data:
                            writer.write(piece)
                            await writer.drain()
                    await writer.drain()
                finally:
                    site.under_way[host] -= 1
                if not keep_alive:
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=ssl)
        site.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield
        server.close()

    with in_a_thread(running()):
        yield site


@pytest.fixture
def run_crawl(tmp_path: object) -> Callable[..., Manifest]:
    """Crawl the local site as http://site.example/ into `<tmp>/<name>`, quickly."""

    def run(
        site: Site | RawSite, name: str = "crawl", *, resolve: Mapping[str, str] | None = None, **changes: object
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
