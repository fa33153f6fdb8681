"""Reading web archives: WARC (ISO 28500) and ARC, ours and other people's, to the last readable record.

A reader of our own, because fastwarc and warcio both take a cut-off record at the end of a file for a whole one or for
the end, and both stop for good at the first damage. Here damage is reported as a bad record and reading goes on at the
next thing that looks like the start of one. ARC files go to warcio. Nothing ends the iteration early in silence.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

import fsspec
from warcio.archiveiterator import ArchiveIterator as WarcioIterator
from warcio.exceptions import ArchiveLoadFailed

from cpt_ray.web.content import BodyError, charset, dechunk, unpack

_SCAN = 1 << 20
_PLAIN_START = re.compile(rb"WARC/[01]\.\d+\r?\n")
_GZIP_START = b"\x1f\x8b\x08"
_VERSION = re.compile(rb"WARC/\d+\.\d+\r?\n")
_LONGEST_HEADER = 65_536


@dataclass(frozen=True)
class Record:
    """One record of an archive. `reason` is None if it is sound, else why nothing can be had from it.

    `kind` is the WARC record type ("response", "request", ...; "" where it could not be read). `status` is the HTTP
    status (0 without one), `headers` by lower-case name, `body` unpacked. `file` and `offset` (bytes, in the compressed
    file) say where it stands.
    """

    file: str
    offset: int
    kind: str = ""
    url: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fetched_at: datetime | None = None
    reason: str | None = None

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters."""
        return self.headers.get("content-type", "").split(";", 1)[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """The charset the Content-Type header declares, as Python calls it."""
        return charset(self.headers.get("content-type", ""))


def read_archive(path: str, *, max_bytes: int = 10_000_000) -> Iterator[Record]:
    """Every record of the archive at `path` (any fsspec URI), in order, the bad ones with their reason.

    A response's body is dechunked and unpacked, and dropped ("too_large") beyond `max_bytes`. Raises OSError when the
    file itself cannot be read.
    """
    fs, target = fsspec.core.url_to_fs(path)
    name = target.rsplit("/", 1)[-1]
    with fs.open(target, "rb") as source:
        head = source.read(64)
        source.seek(0)
        if not head:
            return
        if _starts_arc(head, source):
            yield from _arc(source, name, max_bytes)
        else:
            yield from _warc(source, name, max_bytes)


def _warc(source: BinaryIO, name: str, max_bytes: int) -> Iterator[Record]:
    start: int | None = 0
    while start is not None:
        stream = _Stream(source, start)
        try:
            while (record := _record(stream, name, max_bytes)) is not None:
                yield record
            return
        except _Damage as damage:
            yield Record(name, stream.offset, reason=damage.reason, **damage.known)
            # Damage may have hidden where this record ends: look for the next start right behind its own.
            start = _next_start(source, stream.offset + 1)


class _Damage(Exception):
    """The stream cannot be read as records from here on; `known` is what the present one's header told before."""

    def __init__(self, reason: str, **known: Any) -> None:
        super().__init__(reason)
        self.reason, self.known = reason, known


class _Stream:
    """The unpacked content of a plain or gzipped archive from byte `start`.

    `offset` is where in the file the present record begins: for gzip, the start of its member.
    """

    def __init__(self, source: BinaryIO, start: int) -> None:
        self._source = source
        source.seek(start)
        self._packed = source.read(_SCAN)
        self._gzip = self._packed.startswith(_GZIP_START[:2])
        self._inflate: zlib._Decompress | None = None
        self._buffer = bytearray()
        self._used = self.offset = start
        self._member = start
        self._claimed = True

    def begin(self) -> bool:
        """Stand at the next record, behind empty lines; False at the end of the archive."""
        while True:
            rest = self._buffer.lstrip(b"\r\n")
            self._used += 0 if self._gzip else len(self._buffer) - len(rest)
            self._buffer = rest
            if rest:
                self.offset = self._member if self._gzip else self._used
                self._claimed = True
                return True
            if not self._fill():
                return False

    def header(self) -> bytes:
        """The lines up to the empty one."""
        while True:
            ends = [at + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := self._buffer.find(mark)) >= 0]
            if ends:
                return self.take(min(ends))
            if len(self._buffer) > _LONGEST_HEADER:
                raise _Damage("malformed")
            if not self._fill():
                raise _Damage("truncated" if self._buffer.startswith(b"WARC/"[: len(self._buffer)]) else "malformed")

    def take(self, n: int) -> bytes:
        """The next `n` bytes, fewer only at the end of the archive."""
        while len(self._buffer) < n and self._fill():
            pass
        taken = bytes(self._buffer[:n])
        del self._buffer[:n]
        self._used += 0 if self._gzip else len(taken)
        return taken

    def skip(self, n: int) -> int:
        """Pass over `n` bytes without keeping them; how many there were."""
        passed = 0
        while passed < n and (block := self.take(min(_SCAN, n - passed))):
            passed += len(block)
        return passed

    def _fill(self) -> bool:
        """Unpack more; False at the end."""
        if not self._packed:
            self._packed = self._source.read(_SCAN)
        if not self._packed:
            if not self._claimed and not self._buffer:
                raise _Damage("truncated")  # a member cut off before its record began
            return False
        if not self._gzip:
            self._buffer += self._packed
            self._packed = b""
            return True
        if self._inflate is None:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            self._member, self._claimed = self._used, False
            if not self._buffer:
                self.offset = self._member
        try:
            # In bounded pieces: a member of a few kilobytes may unpack to gigabytes.
            self._buffer += self._inflate.decompress(self._packed, _SCAN)
        except zlib.error:
            raise _Damage("malformed") from None
        left = self._inflate.unconsumed_tail or self._inflate.unused_data
        self._used += len(self._packed) - len(left)
        self._packed = left
        if self._inflate.eof:
            self._inflate = None
        return True


def _record(stream: _Stream, name: str, max_bytes: int) -> Record | None:
    """The record the stream stands before, None at the end of the archive."""
    if not stream.begin():
        return None
    head = stream.header()
    fields = {
        key.strip().lower(): value.strip()
        for key, _, value in (line.partition(":") for line in head.decode("utf-8", "replace").splitlines()[1:])
    }
    length_text = fields.get("content-length", "")
    if not _VERSION.match(head) or not length_text.isdigit():
        raise _Damage("malformed")
    offset, length = stream.offset, int(length_text)
    kind, url = fields.get("warc-type", "").lower(), fields.get("warc-target-uri", "").strip("<>")
    fetched_at = _date(fields.get("warc-date", ""))
    long = length > max_bytes + _LONGEST_HEADER
    block = b"" if long else stream.take(length)
    if (stream.skip(length) if long else len(block)) < length:
        # The file may have been cut, or the length is damaged, and then other records stand where this one's rest would.
        raise _Damage("truncated", kind=kind, url=url, fetched_at=fetched_at)
    if long:
        return Record(name, offset, kind, url, fetched_at=fetched_at, reason="too_large")
    if kind == "resource":
        return Record(name, offset, kind, url, 200, {"content-type": fields.get("content-type", "")}, block, fetched_at)
    if kind != "response":
        return Record(name, offset, kind, url, fetched_at=fetched_at)
    head, separator, body = block.partition(b"\r\n\r\n")
    if not separator:
        head, _, body = block.partition(b"\n\n")
    lines = head.decode("latin-1").splitlines()
    status = re.match(r"HTTP/\d(?:\.\d)?\s+(\d{3})\b", lines[0]) if lines else None
    pairs = [(key, value) for key, colon, value in (line.partition(":") for line in lines[1:]) if colon]
    return _response(name, offset, url, int(status[1]) if status else 0, pairs, body, fetched_at, max_bytes)


def _response(
    name: str,
    offset: int,
    url: str,
    status: int,
    pairs: Iterable[tuple[str, str]],
    body: bytes,
    fetched_at: datetime | None,
    max_bytes: int,
) -> Record:
    """A response from the parts of its HTTP message; the first of several headers of one name counts."""
    headers: dict[str, str] = {}
    for key, value in pairs:
        headers.setdefault(key.strip().lower(), value.strip())
    reason = None if status else "no_http_status"
    try:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = dechunk(body)
        body = unpack(body, headers.get("content-encoding", ""), max_bytes)
    except BodyError as error:
        reason, body = reason or error.reason, b""
    return Record(name, offset, "response", url, status, headers, body, fetched_at, reason)


# --- damage -----------------------------------------------------------------------------------------------------------


def _next_start(source: BinaryIO, after: int) -> int | None:
    """Offset of the next record at or behind `after`: a WARC version line, or a gzip member that holds one."""
    at = after
    while True:
        source.seek(at)
        block = source.read(_SCAN)
        if not block:
            return None
        plain = _PLAIN_START.search(block)
        found = [plain.start()] if plain else []
        candidate = block.find(_GZIP_START)
        while candidate >= 0 and (not found or candidate < found[0]):
            if _holds_warc(source, at + candidate):
                found = [candidate]
            candidate = block.find(_GZIP_START, candidate + 1)
        if found:
            return at + found[0]
        if len(block) < _SCAN:
            return None
        at += len(block) - 16  # a mark may lie across the boundary


def _holds_warc(source: BinaryIO, start: int) -> bool:
    source.seek(start)
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(source.read(1024), 16).startswith(b"WARC/")
    except zlib.error:
        return False


# --- ARC --------------------------------------------------------------------------------------------------------------


def _starts_arc(head: bytes, source: BinaryIO) -> bool:
    if head.startswith(_GZIP_START[:2]):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(source.read(4096), 64)
        except zlib.error:
            head = b""
        source.seek(0)
    return head.startswith(b"filedesc:")


def _arc(source: BinaryIO, name: str, max_bytes: int) -> Iterator[Record]:
    """warcio gives each ARC record the headers of a WARC response."""
    iterator = WarcioIterator(source, arc2warc=True)
    offset = 0
    try:
        for raw in iterator:
            block = b""
            while piece := raw.raw_stream.read(_SCAN):
                block += piece
            # Asking for the offset passes over the record, so it comes after reading.
            offset = iterator.get_record_offset()
            if raw.rec_type != "response":
                yield Record(name, offset, raw.rec_type)
                continue
            url = raw.rec_headers.get_header("WARC-Target-URI") or ""
            code = raw.http_headers.get_statuscode() if raw.http_headers else ""
            status = int(code) if code and code.isdigit() else 0
            pairs = raw.http_headers.headers if raw.http_headers else []
            date = _date(raw.rec_headers.get_header("WARC-Date") or "")
            yield _response(name, offset, url, status, pairs, block, date, max_bytes)
    except (ArchiveLoadFailed, OSError, ValueError, EOFError, zlib.error):
        yield Record(name, offset, reason="malformed")


def _date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return None
