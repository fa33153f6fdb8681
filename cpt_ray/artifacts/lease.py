"""One builder of an artifact in a bucket, where the kernel holds no lock: a lease, renewed while its holder lives.

A lease is an object beside the artifact that its holder writes again every BEAT seconds. Who finds one watches it: if it
changes, its holder lives; if it has not for LEASE seconds, the holder is taken to be dead and the lease is taken over.
No two clocks are compared. A holder that was taken for dead, and was not, finds that out before it publishes, and the
manifest is put conditionally besides.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec import AbstractFileSystem

from cpt_ray.artifacts.places import Changed, put_over, read, remove_file
from cpt_ray.errors import UserError

log = logging.getLogger("cpt_ray")
LEASE = 30.0
"""Seconds without a renewal after which a holder is taken to be dead."""
BEAT = 5.0
"""Seconds between renewals."""


class Lease:
    """A lease that is held, until `held` is no longer set."""

    def __init__(self, fs: AbstractFileSystem, target: str) -> None:
        self.name = posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.lease")
        self._fs, self._target, self._beats = fs, target, 0
        self._holder = {"host": socket.gethostname(), "pid": os.getpid(), "holder": uuid.uuid4().hex}
        self._over = threading.Event()
        self.lost = False
        self._version = self._take()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """UserError when another took the lease over."""
        if self.lost:
            raise UserError(
                "another process took over the building of this artifact, because this one seemed to be dead",
                where=self._target,
                fix="wait for it, or end it, and run again",
            )

    def release(self) -> None:
        """Stop renewing, and let go of the lease if it is still this one's."""
        self._over.set()
        self._thread.join()
        there = read(self._fs, self.name)
        if there is not None and json.loads(there[0])["holder"] == self._holder["holder"]:
            remove_file(self._fs, self.name)

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._holder, "beat": self._beats}).encode()

    def _take(self) -> Any:
        while True:
            there = read(self._fs, self.name)
            if there is not None and self._lives(*there):
                who = json.loads(there[0])
                raise UserError(
                    f"another process is building this artifact (process {who['pid']} on {who['host']})",
                    where=self._target,
                    fix="wait for it, or end it, and run again",
                )
            try:
                return put_over(self._fs, self.name, self._content(), there[1] if there else None)
            except Changed:
                continue

    def _lives(self, content: bytes, version: Any) -> bool:
        """Whether the lease of another changes while it is watched."""
        log.info("%s: somebody was building here; watching for %g s whether they still are", self._target, LEASE)
        since = time.monotonic()
        while time.monotonic() - since < LEASE:
            time.sleep(min(BEAT, LEASE) / 4)
            now = read(self._fs, self.name)
            if now is None or now[0] != content:
                return now is not None
        return False

    def _beat(self) -> None:
        while not self.lost and not self._over.wait(BEAT):
            self.renew()

    def renew(self) -> None:
        """Show that the holder lives, or find out that the lease is another's."""
        try:
            self._version = put_over(self._fs, self.name, self._content(), self._version)
        except Changed:
            self.lost = True
        except Exception as error:  # noqa: BLE001 - the next beat may come through
            log.warning("%s could not be renewed: %s", self.name, error)


@contextmanager
def leased(fs: AbstractFileSystem, target: str) -> Iterator[Lease]:
    """Hold the lease of the artifact at `target`; UserError while another does."""
    lease = Lease(fs, target)
    try:
        yield lease
    finally:
        lease.release()
