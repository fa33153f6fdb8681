"""Files of a checkpoint, written behind training's back.

What is to be saved is serialised before `put` returns, so training may change it at once; a thread brings the bytes to the
disk. A file has its name only when it is whole.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


class Writer:
    """One thread, which does what it is given in order."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[Future[None]] = []

    def put(self, state: Any, path: str) -> None:
        """Write `state` as `torch.save` does, as it is now."""
        content = io.BytesIO()
        torch.save(state, content)
        self.then(_write, content, path)

    def then(self, action: Callable[..., None], *arguments: Any) -> None:
        """Do this after all that was given before; not at all when some of it has failed."""
        before = list(self._pending)

        def run() -> None:
            if all(other.exception() is None for other in before):
                action(*arguments)

        self._pending.append(self._thread.submit(run))

    def wait(self) -> None:
        """Until all is done; raises what went wrong."""
        pending, self._pending = self._pending, []
        for done in pending:
            done.result()


def _write(content: io.BytesIO, path: str) -> None:
    temporary = path + ".tmp"
    with open(temporary, "wb") as sink:
        sink.write(content.getbuffer())
    os.replace(temporary, path)
