"""Files of a checkpoint, written behind training's back.

What is to be saved is serialised before `put` returns, so training may change it at once; a thread brings the bytes to the
disk. A file has its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from cpt_ray.errors import UserError


class Writer:
    """One thread, which does what it is given in order."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[Future[None]] = []

    def put(self, state: Any, path: str) -> None:
        """Write `state` as `torch.save` does, as it is now."""
        self.then(_write, _serialised(state), path)

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


def write_now(state: Any, path: str) -> None:
    """Write `state` as `torch.save` does, whole or not at all, before returning."""
    _write(_serialised(state), path)


def _serialised(state: Any) -> io.BytesIO:
    content = io.BytesIO()
    torch.save(state, content)
    return content


def _write(content: io.BytesIO, path: str) -> None:
    temporary = path + ".tmp"
    with told_where(path):
        try:
            with open(temporary, "wb") as sink:
                sink.write(content.getbuffer())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # what is half written would only keep the disk full
            raise


@contextmanager
def told_where(path: str) -> Iterator[None]:
    """What the system refuses inside, such as a full disk, is a UserError that names the place."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"this cannot be written: {what}",
            where=path,
            fix="make room, or make the place writable, and run the same command again: it goes on from the newest complete"
            " checkpoint",
        ) from error
