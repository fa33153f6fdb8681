"""Listen to a growing file of metrics: training writes it, and knows nothing of who reads it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int, dict[str, float]], None]
"""(step, metrics)."""


class Growing:
    """The whole lines of a file, each once as it grows; from its beginning again where it was written anew.

    That is another file under its name, as a resumed run puts there, or one that has become shorter.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._read = 0

    def lines(self) -> list[bytes]:
        """Those written since the last call, with their ends; none while there is no file."""
        try:
            with open(self._path, "rb") as source:
                status = os.fstat(source.fileno())
                file = (status.st_dev, status.st_ino)
                if file != self._file or status.st_size < self._read:
                    self._file, self._read = file, 0
                source.seek(self._read)
                new = source.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.splitlines(keepends=True)


@contextmanager
def follow(path: str, listener: Listener, *, after: int = -1, seconds: float = 1.0) -> Iterator[None]:
    """Call `listener` once for each row of the JSON-lines file `path` (each has a `step`), as they are written.

    Rows up to step `after` are passed over, and so are steps seen before: a restarted run may write them again. When the
    block ends, what is left is read. The listener runs in a thread of its own; what it raises is raised at the end.
    """
    over, failed, growing = threading.Event(), list[Exception](), Growing(path)
    seen = after

    def drain() -> None:
        nonlocal seen
        for line in growing.lines():
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
