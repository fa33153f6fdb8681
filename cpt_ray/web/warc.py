"""WARC segments (ISO 28500, WARC 1.1) that survive a kill.

Every URL of a crawl leaves one *group* of records, written by one call: response, request and, last, a metadata record
with the outcome, which is the group's commit mark. A URL that gave no response leaves the metadata record alone. Each
record is a gzip member. The segment being written is called `crawl-00000.warc.gz.open`; it loses the suffix when it is
complete. After a kill the whole groups at its front are kept, the rest is cut off, and writing goes on behind them. Shard 2
of 4 calls its own `crawl-2of4-00000.warc.gz`, and holds a lock while it writes: an actor may live on after its crawl.

Records are put together here and not by a library, because header bytes are archived as they came: a Location in raw
UTF-8 must lead a resumed crawl to where it led the first.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

from cpt_ray.errors import UserError

try:
    import fcntl
except ImportError:  # pragma: no cover - only Windows lacks it, and there the lock is left out
    fcntl = None  # type: ignore[assignment]

OPEN = ".open"
SEGMENT = re.compile(r"crawl-(?:(\d+)of(\d+)-)?(\d{5,})\.warc\.gz")
PATIENCE = 60.0
"""Seconds that a writer of a crawl that is over may take to die."""
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
"""The profile of a revisit record whose page the server did not send again (WARC 1.1, section 6.7.3)."""
_GZIP_LEVEL = 6
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Exchange:
    """What became of one URL. `outcome` is "fetched", "redirect", "status_404", "timeout" ...

    `status` is 0 without an answer. `request` are the bytes sent, `headers` and `body` those received: names and values
    in order, a character a byte (Latin-1), and the body dechunked, otherwise as sent. `attempts` is how often the URL
    was asked for. `earlier` is the capture that a server said is still the page ("not_modified").
    """

    url: str
    outcome: str
    started: datetime
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    request: bytes = b""
    address: str = ""
    version: str = "HTTP/1.1"
    attempts: int = 1
    earlier: Earlier | None = None

    def header(self, name: str) -> str:
        """The first header of that (lower-case) name, "" if there is none."""
        return next(iter(self.all_headers(name)), "")

    def all_headers(self, name: str) -> list[str]:
        """The headers of that (lower-case) name."""
        return [value for key, value in self.headers if key.lower() == name]


class Committed(NamedTuple):
    """Where the group of a URL stands: `path` of the segment, byte `offset` of its first record, `end` of its last."""

    url: str
    outcome: str
    path: str
    offset: int
    end: int
    attempts: int = 1


class Earlier(NamedTuple):
    """A capture of an earlier crawl: its record's id and date, what the server called its version, and where it stands."""

    record: str
    date: str
    etag: str
    modified: str
    group: Committed

    @property
    def conditions(self) -> dict[str, str]:
        """Request headers that ask for the page only if it is another one (RFC 9110 section 13.1)."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in named.items() if value}


class SegmentWriter:
    """Appends groups to segments in `folder`; at most one process may do so for each shard (number, of how many).

    Of one shard the artifact's lock sees to it, of several a lock of its own in the folder `locks`.
    """

    def __init__(
        self,
        folder: str,
        *,
        software: str,
        max_records: int,
        max_bytes: int,
        shard: tuple[int, int] = (0, 1),
        locks: str = "",
    ) -> None:
        self._folder, self._software = folder, software
        self._max_records, self._max_bytes = max_records, max_bytes
        self._file: BinaryIO | None = None
        self._path, self._groups = "", 0
        self._number = 0
        self._shard = shard
        self._name = f"{shard[0]}of{shard[1]}-" if shard[1] > 1 else ""
        self._lock = os.path.join(locks, f"{self._name}.lock") if self._name else ""
        self._held: BinaryIO | None = None

    def recover(self) -> list[Committed]:
        """Every group already in the folder, but for those of other shards of as many, after cutting an interrupted
        segment back to its last whole group. UserError while another process writes for the same shard."""
        if self._lock:
            self._held = _hold(self._lock)
        found: list[Committed] = []
        for path in segments(self._folder, unfinished=True):
            shard = _shard(path)
            if shard != self._shard and shard[1] == self._shard[1]:
                continue
            groups = list(committed(path))
            found += groups
            if shard != self._shard:
                continue
            self._number = max(self._number, _number(path) + 1)
            if not path.endswith(OPEN):
                continue
            if not groups:
                os.remove(path)
                self._number -= 1
                continue
            os.truncate(path, groups[-1].end)
            self._number = _number(path)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - stays open until `close`
            self._path, self._groups = path, len(groups)
        return found

    def write(self, exchange: Exchange) -> Committed:
        """Append the group of one URL; it is whole on disk when this returns (against a kill, not a power cut)."""
        data = b"".join(_records(exchange))
        if self._file is None:
            self._open()
        assert self._file is not None
        offset = self._file.tell()
        self._file.write(data)
        self._groups += 1
        done = Committed(exchange.url, exchange.outcome, self._path, offset, offset + len(data), exchange.attempts)
        if self._groups >= self._max_records or done.end >= self._max_bytes:
            self.close()
        return done

    def close(self) -> None:
        """Complete the segment under way: flushed to the disk, then renamed to its final name."""
        if self._file is None:
            return
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._path, self._path.removesuffix(OPEN))
        self._file, self._groups = None, 0
        self._number += 1

    def let_go(self) -> None:
        """Leave the shard to another process."""
        if self._held is not None:
            self._held.close()

    def _open(self) -> None:
        self._path = os.path.join(self._folder, f"crawl-{self._name}{self._number:05d}.warc.gz{OPEN}")
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - stays open until `close`
        fields = f"software: {self._software}\r\nformat: WARC File Format 1.1\r\nrobots: obey\r\n".encode()
        name = {"WARC-Filename": os.path.basename(self._path).removesuffix(OPEN)}
        self._file.write(_record("warcinfo", datetime.now(UTC), "application/warc-fields", fields, name)[1])


def complete_segments(folder: str, locks: str, of: int) -> None:
    """Wait for writers of a crawl that is over, and complete what shards of another number than `of` left unfinished."""
    for name in os.listdir(locks):
        if name.endswith(".lock"):
            _hold(os.path.join(locks, name)).close()
    for path in segments(folder, unfinished=True):
        if path.endswith(OPEN) and _shard(path)[1] != of:
            if groups := list(committed(path)):
                os.truncate(path, groups[-1].end)
                os.rename(path, path.removesuffix(OPEN))
            else:
                os.remove(path)


def _hold(lock: str) -> BinaryIO:
    """Hold a lock until it is closed, or this process dies. UserError where another holds it for longer than PATIENCE."""
    holder = open(lock, "wb")  # noqa: SIM115 - is the lock
    since = time.monotonic()
    while fcntl is not None:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - since > PATIENCE:
                holder.close()
                raise UserError(
                    "a process of an earlier crawl still writes here", where=lock, fix="end it, and run again"
                ) from None
            time.sleep(0.1)
        else:
            break
    return holder


def segments(folder: str, *, unfinished: bool = False) -> list[str]:
    """Paths of the complete segments in a folder (and of the one under way), in the order they were written."""
    names = [name for name in os.listdir(folder) if SEGMENT.fullmatch(name.removesuffix(OPEN))]
    return [os.path.join(folder, name) for name in sorted(names) if unfinished or not name.endswith(OPEN)]


def committed(path: str) -> Iterator[Committed]:
    """The whole groups at the front of a segment; ends without error where it was cut off."""
    start: int | None = None
    for offset, end, data in _members(path):
        headers, _, body = data.partition(b"\r\n\r\n")
        kind = _field(headers, b"WARC-Type")
        if kind == "warcinfo":
            continue
        start = offset if start is None else start
        if kind == "metadata":
            segment = path.removesuffix(OPEN)
            attempts = int(_field(body, b"attempts") or 1)
            yield Committed(
                _field(headers, b"WARC-Target-URI"), _field(body, b"outcome"), segment, start, end, attempts
            )
            start = None


def read_exchange(group: Committed) -> Exchange:
    """The response of a group, as much of it as following links needs."""
    path = group.path if os.path.exists(group.path) else group.path + OPEN
    with open(path, "rb") as source:
        source.seek(group.offset)
        _, _, data = next(_walk(source, group.offset))
    headers, _, block = data.partition(b"\r\n\r\n")
    if _field(headers, b"WARC-Type") != "response":
        return Exchange(group.url, group.outcome, datetime.now(UTC), attempts=group.attempts)
    head, _, body = block.removesuffix(b"\r\n\r\n").partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = tuple((name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:]))
    status = int(lines[0].split()[1])
    return Exchange(group.url, group.outcome, datetime.now(UTC), status, "", pairs, body, attempts=group.attempts)


def captures(folder: str) -> Iterator[Earlier]:
    """The pages of a finished crawl of which the server named a version."""
    for path in segments(folder):
        said: tuple[bytes, bytes, int] | None = None
        for offset, end, data in _members(path):
            headers, _, block = data.partition(b"\r\n\r\n")
            kind = _field(headers, b"WARC-Type")
            if kind == "response":
                said = headers, block.partition(b"\r\n\r\n")[0], offset
            elif kind == "metadata":
                if said is not None and _field(block, b"outcome") == "fetched":
                    etag, modified = (_field(said[1], name) for name in (b"ETag", b"Last-Modified"))
                    record, date, url = (
                        _field(said[0], name) for name in (b"WARC-Record-ID", b"WARC-Date", b"WARC-Target-URI")
                    )
                    if etag or modified:
                        yield Earlier(record, date, etag, modified, Committed(url, "fetched", path, said[2], end))
                said = None


def _members(path: str) -> Iterator[tuple[int, int, bytes]]:
    """(offset, end, content) of each whole gzip member from the front of a file."""
    with open(path, "rb") as source:
        yield from _walk(source, 0)


def _walk(source: BinaryIO, start: int) -> Iterator[tuple[int, int, bytes]]:
    pending = b""
    while True:
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        content, used = [], 0
        while not inflate.eof:
            if not pending:
                pending = source.read(_BLOCK)
            if not pending:
                return
            try:
                content.append(inflate.decompress(pending))
            except zlib.error:
                return
            used += len(pending) - len(inflate.unused_data)
            pending = inflate.unused_data
        yield start, start + used, b"".join(content)
        start += used


def _records(exchange: Exchange) -> Iterator[bytes]:
    about = {"WARC-Target-URI": exchange.url}
    if exchange.status:
        # The body was dechunked on receipt; a header that says otherwise would mislead every reader.
        renamed = ("transfer-encoding", "content-length")
        lines = [f"{exchange.version} {exchange.status} {exchange.reason}".encode("utf-8", "surrogateescape")]
        for name, value in exchange.headers:
            prefix = "X-Crawler-" if name.lower() in renamed else ""
            lines.append(f"{prefix}{name}: {value}".encode("latin-1"))
        lines.append(b"Content-Length: %d" % len(exchange.body))
        answer = b"\r\n".join(lines) + b"\r\n\r\n" + exchange.body
        kind = "response"
        fields = about | {"WARC-Payload-Digest": _digest(exchange.body)}
        if exchange.earlier is not None:
            kind = "revisit"
            fields = about | {
                "WARC-Profile": NOT_MODIFIED,
                "WARC-Refers-To": exchange.earlier.record,
                "WARC-Refers-To-Target-URI": exchange.url,
                "WARC-Refers-To-Date": exchange.earlier.date,
            }
        fields |= {"WARC-IP-Address": exchange.address} if exchange.address else {}
        response, data = _record(kind, exchange.started, "application/http; msgtype=response", answer, fields)
        yield data
        fields = about | {"WARC-Concurrent-To": response}
        yield _record("request", exchange.started, "application/http; msgtype=request", exchange.request, fields)[1]
    outcome = f"outcome: {exchange.outcome}\r\nattempts: {exchange.attempts}\r\n".encode()
    yield _record("metadata", exchange.started, "application/warc-fields", outcome, about)[1]


def _record(kind: str, date: datetime, content_type: str, block: bytes, fields: dict[str, str]) -> tuple[str, bytes]:
    """(id, gzip member) of one record."""
    name = f"<urn:uuid:{uuid.uuid4()}>"
    head = {
        "WARC-Type": kind,
        "WARC-Record-ID": name,
        "WARC-Date": date.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        **fields,
        "WARC-Block-Digest": _digest(block),
        "Content-Type": content_type,
        "Content-Length": str(len(block)),
    }
    lines = "".join(f"{key}: {value}\r\n" for key, value in head.items())
    deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    plain = b"WARC/1.1\r\n" + lines.encode() + b"\r\n" + block + b"\r\n\r\n"
    return name, deflate.compress(plain) + deflate.flush()


def _digest(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def _number(path: str) -> int:
    return int(_named(path)[3])


def _shard(path: str) -> tuple[int, int]:
    """Whose segment this is."""
    match = _named(path)
    return (int(match[1]), int(match[2])) if match[1] else (0, 1)


def _named(path: str) -> re.Match[str]:
    match = SEGMENT.search(os.path.basename(path))
    assert match is not None
    return match


def _field(block: bytes, name: bytes) -> str:
    match = re.search(rb"(?im)^" + name + rb":[ \t]*(.*?)[ \t]*\r?$", block)  # \s would go on to the next line
    return match[1].decode("utf-8", "replace") if match else ""
