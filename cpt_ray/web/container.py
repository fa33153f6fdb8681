"""What an archive is packed in: nothing, gzip or zstd, by member (frame) or as a whole; with the place of each record.

A stream knows where members begin, so that no record reaches over the start of the next, whatever its length says.
zstd as `.warc.zst` has it: frames, and a dictionary for them in a leading skippable frame, itself packed or not
(https://iipc.github.io/warc-specifications/specifications/warc-zstd/).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

import zstandard

from cpt_ray.web.record import Damage

BLOCK = 1 << 20
LONGEST_HEAD = 65_536
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
_DICTIONARY = b"\x5d\x2a\x4d\x18"
_LARGEST_DICTIONARY = 64 << 20
_LARGEST_WINDOW = 128 << 20
_START_BYTES = 512


class _Member(Protocol):
    """One gzip member or zstd frame being unpacked."""

    eof: bool
    left: bytes

    def unpack(self, packed: bytes) -> bytes:
        """Some bytes of content; what is not used yet is `left`. Raises Damage."""


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self.eof, self.left = False, b""

    def unpack(self, packed: bytes) -> bytes:
        try:
            # In bounded pieces: a member of a few kilobytes may unpack to gigabytes.
            plain = self._inflate.decompress(packed, BLOCK)
        except zlib.error:
            raise Damage("malformed") from None
        self.eof = self._inflate.eof
        self.left = self._inflate.unconsumed_tail or self._inflate.unused_data
        return plain


class Zstd:
    """A zstd frame; content with `unpack`, until `eof`. A skippable frame is a frame without content."""

    _PIECE = 1024  # unpacks to 32 MB at most: a block of 128 KiB takes four bytes

    def __init__(self, dictionary: zstandard.ZstdCompressionDict | None = None) -> None:
        unpacker = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_LARGEST_WINDOW)
        self._frame = unpacker.decompressobj()
        self._head: bytes | None = b""
        self._skip = 0
        self.eof, self.left = False, b""

    def unpack(self, packed: bytes) -> bytes:
        if self._head is not None:
            packed = self._head + packed
            if len(packed) < 8:
                self._head, self.left = packed, b""
                return b""
            self._head = None
            if _SKIPPABLE.match(packed):
                self._skip = 8 + int.from_bytes(packed[4:8], "little")
        if self._skip:
            passed = min(self._skip, len(packed))
            self._skip -= passed
            self.eof, self.left = not self._skip, packed[passed:]
            return b""
        try:
            plain = self._frame.decompress(packed[: self._PIECE])
        except zstandard.ZstdError:
            raise Damage("malformed") from None
        self.eof = self._frame.eof
        self.left = self._frame.unused_data + packed[self._PIECE :] if self.eof else packed[self._PIECE :]
        return plain


def dictionary_of(source: BinaryIO) -> zstandard.ZstdCompressionDict | None:
    """The dictionary at the head of a `.warc.zst`, None without one. Raises Damage when it cannot be read."""
    source.seek(0)
    head = source.read(8)
    if not head.startswith(_DICTIONARY):
        return None
    size = int.from_bytes(head[4:8], "little")
    content = source.read(size) if size <= _LARGEST_DICTIONARY else b""
    if len(content) < size or not content:
        raise Damage("truncated" if size <= _LARGEST_DICTIONARY else "malformed")
    try:
        if content.startswith(_ZSTD):
            unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
            content = unpacker.decompress(content, max_output_size=_LARGEST_DICTIONARY)
        return zstandard.ZstdCompressionDict(content)
    except zstandard.ZstdError:
        raise Damage("malformed") from None


class Stream:
    """The unpacked content of an archive from byte `at` of its file; records begin with `start`.

    `offset` is where in the file the present record begins: if packed, the start of its member.
    """

    def __init__(
        self,
        source: BinaryIO,
        at: int,
        start: re.Pattern[bytes],
        dictionary: zstandard.ZstdCompressionDict | None = None,
    ) -> None:
        self._source, self._start = source, start
        source.seek(at)
        self._packed = source.read(BLOCK)
        self._open = _opener(self._packed, dictionary)
        self._member: _Member | None = None
        self._buffer = bytearray()
        self._members: list[tuple[int, int]] = []  # (place in the buffer, place in the file) where members begin
        self._read = self.offset = at
        self._failed: Damage | None = None

    def begin(self) -> bool:
        """Stand at the next record, behind empty lines; False at the end of the archive."""
        while True:
            self._drop(len(self._buffer) - len(self._buffer.lstrip(b"\r\n")))
            if self._buffer:
                self.offset = self._members[0][1] if self._open else self._read - len(self._buffer)
                return True
            if not self._fill():
                return False

    def head(self, end: re.Pattern[bytes], begun: re.Pattern[bytes]) -> bytes:
        """What stands before the first `end`, with it. Raises Damage, "truncated" if the rest looks `begun`."""
        while (found := end.search(self._buffer)) is None:
            if len(self._buffer) > LONGEST_HEAD:
                raise Damage("malformed")
            if not self._fill():
                raise Damage("truncated" if begun.fullmatch(self._buffer) else "malformed")
        return self.take(found.end())

    def take(self, n: int) -> bytes:
        """The next `n` bytes; fewer at the end of the archive, or where another record's member begins before."""
        while len(self._buffer) < n and self._fill():
            pass
        for place, _ in self._members:
            if 0 < place < n and self._starts(place):
                n = place
                break
        taken = bytes(self._buffer[:n])
        self._drop(n)
        return taken

    def skip(self, n: int) -> int:
        """Pass over `n` bytes without keeping them; how many there were."""
        passed = 0
        while passed < n:
            step = min(BLOCK, n - passed)
            taken = len(self.take(step))
            passed += taken
            if taken < step:
                break
        return passed

    def block(self, length: int, most: int, **known: object) -> tuple[bytes, str | None]:
        """A record's block of `length` bytes, and None; or no bytes of use and why: "too_large" (more than `most`), or
        "malformed" (it does not end where it says). Raises Damage "truncated", with what is `known` of the record."""
        long = length > most
        block = b"" if long else self.take(length)
        if (self.skip(length) if long else len(block)) < length:
            # The file may have been cut, or the length is damaged, and then other records stand where this one's rest would.
            raise Damage("truncated", **known)
        sound = self.ends_here(block, **known)
        return block, "too_large" if long else None if sound else "malformed"

    def ends_here(self, block: bytes, **known: object) -> bool:
        """Whether a record that has just given its `block` ends there; False if its length is too short. Raises Damage
        "truncated" if it is too long and other records are within."""
        try:
            while len(self._buffer) < _START_BYTES and self._fill():
                pass
        except Damage as damage:
            self._failed = damage  # of what comes next
        place = len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))
        border = any(0 <= at <= place for at, _ in self._members[1:])
        if place == len(self._buffer) or border or self._start.match(self._buffer, place):
            return True
        inside = re.search(rb"\n(?:" + self._start.pattern + rb")", block + bytes(self._buffer[:_START_BYTES]))
        if inside and inside.start() + 1 < len(block):
            raise Damage("truncated", **known)
        return self._buffer.startswith((b"\r\n\r\n", b"\n"))

    def _starts(self, place: int) -> bool:
        try:
            while len(self._buffer) < place + _START_BYTES and self._fill():
                pass
        except Damage as damage:
            self._failed = damage
        return self._start.match(self._buffer, place) is not None

    def _drop(self, n: int) -> None:
        del self._buffer[:n]
        self._members = [(place - n, at) for place, at in self._members]
        while len(self._members) > 1 and self._members[1][0] <= 0:
            del self._members[0]

    def _fill(self) -> bool:
        """Unpack more; False at the end."""
        if self._failed:
            raise self._failed
        if not self._packed:
            self._packed = self._source.read(BLOCK)
        if not self._packed:
            if self._member is not None and not self._buffer and self._members[-1][0] == 0:
                raise Damage("truncated")  # a member cut off before its record began
            return False
        if self._open is None:
            self._read += len(self._packed)
            self._buffer += self._packed
            self._packed = b""
            return True
        if self._member is None:
            self._member = self._open()
            self._members.append((len(self._buffer), self._read))
            while len(self._members) > 1 and self._members[1][0] <= 0:
                del self._members[0]
            if not self._buffer:
                self.offset = self._read
        plain = self._member.unpack(self._packed)
        self._read += len(self._packed) - len(self._member.left)
        self._packed = self._member.left
        self._buffer += plain
        if self._member.eof:
            self._member = None
        return True


def _opener(packed: bytes, dictionary: zstandard.ZstdCompressionDict | None) -> Callable[[], _Member] | None:
    if packed.startswith(_GZIP[:2]):
        return _Gzip
    if packed.startswith(_ZSTD) or _SKIPPABLE.match(packed):
        return lambda: Zstd(dictionary)
    return None


def first_bytes(source: BinaryIO, at: int, n: int, dictionary: zstandard.ZstdCompressionDict | None) -> bytes:
    """The first `n` bytes of content at `at`, fewer where there are no more or they cannot be unpacked."""
    source.seek(at)
    packed = source.read(4096)
    opened = _opener(packed, dictionary)
    if opened is None:
        return packed[:n]
    plain = b""
    member = opened()
    try:
        while packed and len(plain) < n:
            plain += member.unpack(packed)
            packed = member.left or source.read(4096)
            member = opened() if member.eof else member
    except Damage:
        pass
    return plain[:n]


def next_start(
    source: BinaryIO, after: int, start: re.Pattern[bytes], dictionary: zstandard.ZstdCompressionDict | None
) -> int | None:
    """Offset of the next record at or behind `after`: a line that begins one, or a member that holds one."""
    line = re.compile(start.pattern + rb"|" + re.escape(_GZIP) + rb"|" + re.escape(_ZSTD))
    at = after - 1  # a line's beginning is seen by the end of the one before
    while True:
        source.seek(at)
        block = source.read(BLOCK)
        if not block:
            return None
        for found in line.finditer(block):
            place = at + found.start()
            if place < after:
                continue
            if found.group() not in (_GZIP, _ZSTD) or start.match(first_bytes(source, place, _START_BYTES, dictionary)):
                return place
        if len(block) < BLOCK:
            return None
        at += len(block) - _START_BYTES  # a start may lie across the boundary
