"""Listen to a growing file of metrics: training writes it, and knows nothing of who reads it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Listener = Callable[[int, dict[str, float]], None]
"""(step, metrics)."""


@contextmanager
def follow(path: str, listener: Listener, *, after: int = -1, seconds: float = 1.0) -> Iterator[None]:
    """Call `listener` once for each row of the JSON-lines file `path` (each has a `step`), as they are written.

    Rows up to step `after` are passed over, and so are steps seen before: a restarted run may write them again. When the
    block ends, what is left is read. The listener runs in a thread of its own; what it raises is raised at the end.
    """
    over, failed = threading.Event(), list[Exception]()
    seen = after

    def drain() -> None:
        nonlocal seen
        if not Path(path).exists():
            return
        for line in Path(path).read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            row = json.loads(line)
            step = int(row.pop("step"))
            if step > seen:
                seen = step
                listener(step, row)

    def loop() -> None:
        try:
            while not over.wait(seconds):
                drain()
            drain()
        except Exception as error:  # noqa: BLE001 - handed to the block's end, which raises it
            failed.append(error)

    thread = threading.Thread(target=loop, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]
