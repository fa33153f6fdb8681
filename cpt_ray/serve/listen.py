"""One process that listens: the application on a socket, until it is told to stop; then what was asked is answered first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cpt_ray.errors import UserError

log = logging.getLogger("cpt_ray")

DRAIN_SECONDS = 5
"""For requests under way in a process or a replica that is told to stop; a command is given six (pipelines/stopping.py)."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""SIGUSR1 is how a command asks the process that works for it."""


MAX_HEAD = 64 << 10
"""Bytes of a request line and its headers."""


class Protocol(HttpToolsProtocol):
    """uvicorn's, which by itself keeps headers of any length."""

    _head: int | None = 0  # bytes so far, None once the head is whole

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = None

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("the head of the request is too large")


class Server(uvicorn.Server):
    """Stops by all STOPS, and ends as one that was asked to, with 0: nothing is lost by it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {stop: signal.signal(stop, self.handle_exit) for stop in STOPS}
        try:
            yield
        finally:
            for stop, handler in before.items():
                signal.signal(stop, handler)


def server(app: Starlette) -> Server:
    """uvicorn without its logs, which hold the addresses that were asked for, and so the queries."""
    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            access_log=False,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there. UserError where the address cannot be had."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise taken(host, port, f"cannot listen there: {error.strerror or error}") from error


def taken(host: str, port: int, what: str = "cannot listen there") -> UserError:
    """What is said of an address that cannot be had."""
    fix = "end what listens there, or choose another (http.port=0 takes a free one)"
    return UserError(what, where=f"http.host={host} http.port={port}", fix=fix)


def listen(app: Starlette, host: str, port: int) -> None:
    """Serve until told to stop; requests under way are finished first. UserError where the address cannot be had."""
    own = bound(host, port)
    name, number, *_ = own.getsockname()
    log.info("listening on http://%s:%d", f"[{name}]" if ":" in name else name, number)
    asyncio.run(server(app).serve([own]))
    log.info("stopped; every request that was under way is answered")
