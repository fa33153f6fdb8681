"""Reading web archives: WARC, WET and ARC, ours and other people's, to the last readable record.

A reader of our own, because fastwarc and warcio both take a cut-off record at the end of a file for a whole one or for
the end, and both stop for good at the first damage. Here damage is reported as a bad record and reading goes on at the
next thing that looks like the start of one. Nothing ends the iteration early in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple, Protocol, cast

from zstandard import ZstdCompressionDict

from cpt_ray.kinds import modules
from cpt_ray.web import readers
from cpt_ray.web.container import Stream, dictionary_of, first_bytes, next_start
from cpt_ray.web.options import NetworkOptions
from cpt_ray.web.record import Damage, Record
from cpt_ray.web.remote import Remote, base_name, opened, window

_PACKED = ("", ".gz", ".zst")


class Format(Protocol):
    """A module of `readers`."""

    ENDINGS: tuple[str, ...]
    START: re.Pattern[bytes]

    def read(self, stream: Stream, name: str, max_bytes: int) -> Record | None: ...


@cache
def formats() -> dict[str, Format]:
    """The formats that can be read, by name."""
    return {name: cast(Format, module) for name, module in modules(readers.__name__).items()}


def endings() -> tuple[str, ...]:
    """How the names of archives end."""
    return tuple(sorted(ending + packed for one in formats().values() for ending in one.ENDINGS for packed in _PACKED))


class Place(NamedTuple):
    """Where a record is said to be: its first byte, and how many there are (None: not known)."""

    offset: int
    length: int | None = None


def read_at(
    path: str, spans: Iterable[Place], *, max_bytes: int = 10_000_000, remote: Remote | None = None
) -> Iterator[Record]:
    """The records at these places of the archive at `path`, in that order, each found by a seek.

    Of a length that is given, no byte beyond is read. Where no record begins there is one with its reason, as in
    `read_archive`; "not_found" where there is no such file.
    """
    remote, name = remote or Remote(NetworkOptions()), base_name(path)
    for span in spans:
        try:
            dictionary = _dictionary(path, remote)
            length = span.length
            near = opened(path, remote) if length is None else window(path, span.offset, length, remote)
            with near as source:
                head = first_bytes(source, span.offset, 4096, dictionary)
                found = _format(head)
                record = found.read(Stream(source, span.offset, found.START, dictionary), name, max_bytes)
                yield record or Record(name, span.offset, reason="truncated")
        except Damage as damage:
            yield Record(name, span.offset, reason=damage.reason, **damage.known)  # type: ignore[arg-type]
        except FileNotFoundError:
            yield Record(name, span.offset, reason="not_found")


@lru_cache(maxsize=8)
def _dictionary(path: str, remote: Remote) -> ZstdCompressionDict | None:
    """That of a `.zst` file; of any other nothing is read."""
    if not path.endswith(".zst"):
        return None
    with opened(path, remote, ahead=0) as source:
        return dictionary_of(source)


def _format(head: bytes) -> Format:
    """The format that an archive's first bytes are of."""
    known = formats()
    return next((one for one in known.values() if one.START.match(head.lstrip(b"\r\n"))), known["warc"])


def read_archive(path: str, *, max_bytes: int = 10_000_000, remote: Remote | None = None) -> Iterator[Record]:
    """Every record of the archive at `path` (any fsspec URI), in order, the bad ones with their reason.

    A response's body is dechunked and unpacked, and dropped ("too_large") beyond `max_bytes`. Raises OSError when the
    file itself cannot be read.
    """
    name = base_name(path)
    with opened(path, remote or Remote(NetworkOptions())) as source:
        if not source.read(1):
            return
        try:
            dictionary = dictionary_of(source)
        except Damage as damage:
            yield Record(name, 0, reason=damage.reason)
            dictionary = None
        read = _format(first_bytes(source, 0, 4096, dictionary))
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
