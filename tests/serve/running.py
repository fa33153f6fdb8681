"""A model that is served by other processes: ports for it, and clients that ask it."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2


def free_ports(count: int) -> list[int]:
    """So many different ones that nobody has now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@contextmanager
def load(
    address: str, clients: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Iterator[Counter]:
    """So many clients, each with a connection of its own, while the block runs: how often which status was answered, or by
    which error there was no answer."""
    seen: Counter = Counter()
    stop, lock = threading.Event(), threading.Lock()

    def client() -> None:
        with httpx2.Client(timeout=120, headers=headers) as session:
            while not stop.is_set():
                try:
                    status: object = session.post(f"{address}/v1/embeddings", json=body).status_code
                except httpx2.TransportError as error:
                    status = type(error).__name__
                with lock:
                    seen[status] += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
