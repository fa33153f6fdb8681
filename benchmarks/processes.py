"""The processes of a benchmark, looked at again and again while it runs: the driver and what it has started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

Look = Callable[[psutil.Process, str], None]
"""A process, and who it is: `driver`, `worker` (one of Ray's), or nobody of these (empty)."""


@contextmanager
def watched(look: Look, seconds: float) -> Iterator[None]:
    """Look at all of them so often, in a thread, as long as the block takes. One that ends meanwhile (psutil.Error, OSError)
    is passed over."""
    own, over = psutil.Process(), threading.Event()

    def sample() -> None:
        while not over.wait(seconds):
            for process in [own, *own.children(recursive=True)]:
                try:
                    named = "worker" if process.name().startswith("ray::") else ""
                    look(process, "driver" if process.pid == own.pid else named)
                except (psutil.Error, OSError):
                    continue

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
