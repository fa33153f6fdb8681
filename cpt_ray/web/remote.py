"""Byte ranges of files on web servers: what is asked for is read, and nothing beside it.

Each connection is made to an address that was looked at before (addresses.py), redirects included. A server that
sends the whole file where a range was asked for is refused: it would send gigabytes for a page.
"""

from __future__ import annotations

import io
import itertools
import posixpath
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.util import Retry

from cpt_ray.addresses import Permission, connections, host_and_port
from cpt_ray.artifacts.places import locate
from cpt_ray.errors import UserError
from cpt_ray.web.options import NetworkOptions

MOST_REDIRECTS = 5
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_BUSY = (408, 429, 500, 502, 503, 504)
_Pool = urllib3.HTTPConnectionPool


class _BrokenError(Exception):
    """An answer that began well ended too soon."""


class Piece(NamedTuple):
    """Bytes of a file, and how many the whole file has."""

    data: bytes
    total: int


def is_remote(path: str) -> bool:
    """Whether a path is read by range requests."""
    return path.startswith(("http://", "https://"))


def host_of(url: str) -> tuple[str, int]:
    """The host and port that a URL is read from. UserError where there is none, and for one with a password."""
    host, port = host_and_port(url)
    if not host or not port or "@" in urlsplit(url).netloc:
        raise UserError("this is no URL to read from", where=url, fix="give http(s)://host/path")
    return host, port


class Remote:
    """A client that keeps its connections; not for several threads at once."""

    def __init__(self, options: NetworkOptions) -> None:
        self._options = options
        self._permission = Permission(options.allow_private)
        self._pools: dict[tuple[str, str, int], _Pool] = {}
        self._retry = Retry(
            total=options.retries,
            redirect=0,
            status_forcelist=_BUSY,
            backoff_factor=options.backoff,
            backoff_max=options.max_wait,
            backoff_jitter=0.2 * options.backoff,
            respect_retry_after_header=True,
            retry_after_max=int(options.max_wait),
            raise_on_status=False,
        )

    def read(self, url: str, start: int, end: int) -> Piece:
        """Bytes start..end-1; fewer at the file's end, none behind it. FileNotFoundError, or UserError."""
        for attempt in itertools.count():
            try:
                return self._read(url, start, end)
            except _BrokenError as broken:
                if attempt >= self._options.retries:
                    raise UserError(str(broken), where=url, fix="run again: it goes on") from None
                time.sleep(min(self._options.max_wait, self._options.backoff * 2**attempt))
        raise AssertionError

    def _read(self, url: str, start: int, end: int) -> Piece:
        asked = url
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._ask(url, start, end)
            if answer.status in (301, 302, 303, 307, 308) and "location" in answer.headers:
                answer.close()
                try:
                    url = urljoin(url, answer.headers["location"])
                except ValueError:
                    raise UserError("a redirect leads to no URL", where=asked, fix="ask who runs the server") from None
                continue
            try:
                return self._piece(answer, asked, start, end)
            finally:
                answer.release_conn()
        raise UserError("too many redirects", where=asked, fix="give the URL that they lead to")

    def _piece(self, answer: urllib3.BaseHTTPResponse, url: str, start: int, end: int) -> Piece:
        said = answer.headers.get("content-range", "")
        if answer.status == 416:
            answer.close()
            return Piece(b"", int(said.rpartition("/")[2]) if said.rpartition("/")[2].isdigit() else start)
        if answer.status in (404, 410):
            answer.close()
            raise FileNotFoundError(url)
        found = _RANGE.fullmatch(said.strip())
        if answer.status != 206 or found is None or int(found[1]) != start or int(found[2]) >= end:
            answer.close()
            what = "no range" if answer.status == 200 else f"status {answer.status}"
            raise UserError(
                f"the server answers a range request with {what}",
                where=url,
                fix="copy the files, or find a server that can",
            )
        wanted = int(found[2]) + 1 - start
        try:
            data = answer.read(wanted)
        except urllib3.exceptions.HTTPError as error:
            answer.close()
            raise _BrokenError(f"the connection broke: {error}") from None
        if len(data) != wanted:
            answer.close()
            raise _BrokenError(f"{len(data)} of {wanted} bytes came")
        return Piece(data, int(found[3]))

    def _ask(self, url: str, start: int, end: int) -> urllib3.BaseHTTPResponse:
        host, port = host_of(url)
        parts = urlsplit(url)
        headers = {"Host": parts.netloc, "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            return self._pool(parts.scheme, host, port, url).urlopen(
                "GET",
                target,
                headers={**headers, "User-Agent": "cpt-ray"},
                retries=self._retry,
                redirect=False,
                preload_content=False,
                decode_content=False,
                assert_same_host=False,
            )
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"the server does not answer: {reason}", where=url, fix="run again: it goes on from here"
            ) from None

    def _pool(self, scheme: str, host: str, port: int, url: str) -> _Pool:
        """Connections to the one address that was looked at."""
        key = (scheme, host, port)
        if key not in self._pools:
            self._pools[key] = connections(
                scheme,
                host,
                port,
                self._permission,
                url=url,
                option="network.allow_private",
                timeout=self._options.timeout,
            )
        return self._pools[key]


class RangeFile(io.RawIOBase):
    """Bytes start..end-1 of a remote file as a file of which positions are those of the whole; `end` None: to its end.

    `ahead` bytes are read at a time, what is asked for where that is more.
    """

    def __init__(self, remote: Remote, url: str, start: int = 0, end: int | None = None, ahead: int = 0) -> None:
        self._remote, self._url, self._ahead = remote, url, ahead
        self._at, self._end = start, end
        self._held, self._held_at = b"", start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self.size() if base is None else base)
        return self._at

    def size(self) -> int:
        """Bytes of the whole file, or where the window ends."""
        if self._end is None:
            self._end = self._remote.read(self._url, 0, 1).total
        return self._end

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            size = self.size() - self._at
        if self._end is not None:
            size = min(size, self._end - self._at)
        if size <= 0:
            return b""
        inside = self._at - self._held_at
        if inside < 0 or inside + size > len(self._held):
            end = self._at + max(size, self._ahead)
            piece = self._remote.read(self._url, self._at, end if self._end is None else min(end, self._end))
            self._held, self._held_at, inside = piece.data, self._at, 0
            self._end = piece.total if self._end is None else self._end
        found = self._held[inside : inside + size]
        self._at += len(found)
        return found

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


AHEAD = 4 << 20
"""Bytes of a whole remote file that are read at a time."""


@contextmanager
def opened(path: str, remote: Remote, *, ahead: int = AHEAD) -> Iterator[BinaryIO]:
    """A file for reading, wherever it is; of a remote one `ahead` bytes at a time. OSError where it is not there."""
    if is_remote(path):
        yield cast(BinaryIO, RangeFile(remote, path, ahead=ahead))
        return
    fs, target = locate(path)
    with fs.open(target, "rb") as source:
        yield source


@contextmanager
def window(path: str, start: int, length: int, remote: Remote) -> Iterator[BinaryIO]:
    """Like `opened`, of which bytes start..start+length-1 alone are there; of a remote one they are read in one go."""
    if is_remote(path):
        yield cast(BinaryIO, RangeFile(remote, path, start, start + length, ahead=length))
        return
    fs, target = locate(path)
    with fs.open(target, "rb") as source:
        yield cast(BinaryIO, _Window(source, start, start + length))


class _Window(io.RawIOBase):
    """Bytes start..end-1 of a file, whose positions are those of the whole."""

    def __init__(self, source: BinaryIO, start: int, end: int) -> None:
        self._source, self._end = source, end
        source.seek(start)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._source.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._source.tell())
        return self._source.read(left if size is None or size < 0 else min(size, left))


def base_name(path: str) -> str:
    """A file's name without folder and query."""
    return posixpath.basename(urlsplit(path).path if is_remote(path) else path)
