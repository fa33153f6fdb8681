"""Reading web archives: WARC, WET and ARC, ours and other people's, to the last readable record.

A reader of our own, because fastwarc and warcio both take a cut-off record at the end of a file for a whole one or for
the end, and both stop for good at the first damage. Here damage is reported as a bad record and reading goes on at the
next thing that looks like the start of one. Nothing ends the iteration early in silence.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import BinaryIO, NamedTuple, Protocol, cast

from zstandard import ZstdCompressionDict

from cpt_ray.artifacts.places import locate
from cpt_ray.web import readers
from cpt_ray.web.container import Stream, dictionary_of, first_bytes, next_start
from cpt_ray.web.record import Damage, Record

__all__ = ["Record", "endings", "read_archive"]

_PACKED = ("", ".gz", ".zst")


class Format(Protocol):
    """A module of `readers`."""

    ENDINGS: tuple[str, ...]
    START: re.Pattern[bytes]

    def read(self, stream: Stream, name: str, max_bytes: int) -> Record | None: ...


@cache
def formats() -> dict[str, Format]:
    """The formats that can be read, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(readers.__path__))
    return {name: cast(Format, importlib.import_module(f"{readers.__name__}.{name}")) for name in names}


def endings() -> tuple[str, ...]:
    """How the names of archives end."""
    return tuple(sorted(ending + packed for one in formats().values() for ending in one.ENDINGS for packed in _PACKED))


def read_at(path: str, offsets: Iterable[int], *, max_bytes: int = 10_000_000) -> Iterator[Record]:
    """The records that begin at these byte offsets of the archive at `path`, in that order, each found by a seek.

    Where none begins there is a record with its reason, as in `read_archive`.
    """
    fs, target = locate(path)
    name = target.rsplit("/", 1)[-1]
    with fs.open(target, "rb") as source:
        opened = _opened(source)
        for offset in offsets:
            stream = Stream(source, offset, opened.format.START, opened.dictionary)
            try:
                record = opened.format.read(stream, name, max_bytes)
                yield record or Record(name, offset, reason="truncated")
            except Damage as damage:
                yield Record(name, offset, reason=damage.reason, **damage.known)  # type: ignore[arg-type]


class _Opened(NamedTuple):
    format: Format
    dictionary: ZstdCompressionDict | None
    damage: str | None


def _opened(source: BinaryIO) -> _Opened:
    """What format an archive is of, by its first bytes, and its zstd dictionary or why that cannot be read."""
    dictionary, reason = None, None
    try:
        dictionary = dictionary_of(source)
    except Damage as damage:
        reason = damage.reason
    head = first_bytes(source, 0, 4096, dictionary)
    known = formats()
    found = next((one for one in known.values() if one.START.match(head.lstrip(b"\r\n"))), known["warc"])
    return _Opened(found, dictionary, reason)


def read_archive(path: str, *, max_bytes: int = 10_000_000) -> Iterator[Record]:
    """Every record of the archive at `path` (any fsspec URI), in order, the bad ones with their reason.

    A response's body is dechunked and unpacked, and dropped ("too_large") beyond `max_bytes`. Raises OSError when the
    file itself cannot be read.
    """
    fs, target = locate(path)
    name = target.rsplit("/", 1)[-1]
    with fs.open(target, "rb") as source:
        if not source.read(1):
            return
        read, dictionary, damaged = _opened(source)
        if damaged:
            yield Record(name, 0, reason=damaged)
        at: int | None = 0
        while at is not None:
            stream = Stream(source, at, read.START, dictionary)
            try:
                while (record := read.read(stream, name, max_bytes)) is not None:
                    yield record
                return
            except Damage as damage:
                yield Record(name, stream.offset, reason=damage.reason, **damage.known)  # type: ignore[arg-type]
                # Damage may have hidden where this record ends: look for the next start right behind its own.
                at = next_start(source, stream.offset + 1, read.START, dictionary)
