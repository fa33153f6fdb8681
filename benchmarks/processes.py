"""The processes of a benchmark: one that a measurement has for itself, and all of them looked at while it runs."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

Look = Callable[[psutil.Process, str], None]
"""A process, and who it is: `driver`, `worker` (one of Ray's), or nobody of these (empty)."""


def in_own_process(*command: str) -> dict[str, Any]:
    """What a command tells: the JSON object of its last line. CalledProcessError where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@contextmanager
def watched(look: Look, seconds: float) -> Iterator[None]:
    """Look at the driver and what it has started so often, in a thread, as long as the block takes. A process that ends
    meanwhile (psutil.Error, OSError) is passed over."""
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
