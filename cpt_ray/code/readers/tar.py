"""tar, plain or packed: sdists, npm archives, crates, gems, what forges give for a commit. Read twice, never unpacked."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

import zstandard

from cpt_ray.code.tree import MOST_ENTRIES, Budget, Entry, Wanted, digest_of, safe_path, settled, stem_of

ENDINGS = (
    *(f".tar{packed}" for packed in ("", ".gz", ".bz2", ".xz", ".zst")),
    *(".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".crate", ".gem"),
)
_LARGEST_WINDOW = 1 << 27
_LARGEST_NAME = 1 << 20
"""A longer name, or list of attributes, is none: tarfile would read it into memory, however long it claims to be."""
_DESCRIBING = {*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE} - {tarfile.GNUTYPE_SPARSE}


class Damage(Exception):
    """The rest of the archive cannot be read; the text is the reason."""


_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError)
"""What tarfile and the unpackers below it raise for damage: gzip's and bz2's are OSError and EOFError, a number or a name in
a header that is none is ValueError."""


def holds(path: str) -> bool:
    return path.lower().endswith(ENDINGS) and os.path.isfile(path)


@contextmanager
def opened(path: str, *_: object) -> Iterator[Tar]:
    yield Tar(path)


class Tar:
    def __init__(self, path: str) -> None:
        self.path = path

    def version(self) -> str:
        return digest_of(self.path)

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        try:
            for i, (info, _) in enumerate(self._members()):
                if info.isdir():
                    continue
                path = safe_path(info.name)
                if len(found) >= MOST_ENTRIES:
                    raise Damage("too_many_files")
                reason = "unsafe_path" if path is None else None if info.isreg() else "not_a_file"
                found.append(Entry(path or "", i, info.size, reason))
        except Damage as damage:
            found.append(Entry("", reason=str(damage)))  # the rest of the archive, as one
        return settled(found, stem_of(self.path, ENDINGS))

    def parts(self, wanted: Wanted) -> int:
        return 1  # each part would unpack all of it

    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]:
        by_key = {entry.key: entry for entry in wanted}
        try:
            for i, (info, tar) in enumerate(self._members()):
                if i in by_key:
                    handle = tar.extractfile(info)
                    assert handle is not None  # of a regular file there is one
                    try:
                        data = handle.read(most + 1)
                    except _BROKEN:
                        raise Damage("damaged") from None
                    yield by_key.pop(i), data
                if not by_key:
                    return
        except Damage as damage:
            for entry in by_key.values():
                yield entry, str(damage)

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
        try:
            with open(self.path, "rb") as raw:
                budget = Budget(os.fstat(raw.fileno()).st_size)
                stream = _Bounded(_unpacked(raw), budget)
                if self.path.lower().endswith(".gem"):
                    stream = _Bounded(_unpacked(_data_of_gem(stream)), budget)
                with _open(stream) as tar:
                    for info in tar:
                        tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                        yield info, tar
                    if tar.damaged:
                        raise Damage("damaged")
        except _BROKEN:
            raise Damage("damaged") from None


class _Noticing(tarfile.TarFile):
    damaged = False
    zeros = 0


class _Info(tarfile.TarInfo):
    """tarfile takes a damaged header behind the first for the end of the archive; here it is noticed and passed over.

    With `ignore_zeros` tarfile goes on at the next header there is, and past the end too: two blocks of zeros are the end.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Info:
        assert isinstance(tar, _Noticing)
        try:
            found = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            tar.zeros += 1
            if tar.zeros > 1:
                raise tarfile.EmptyHeaderError("the end") from None  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError:
            tar.damaged = True
            raise
        tar.zeros = 0
        return found

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _DESCRIBING and self.size > _LARGEST_NAME:
            raise Damage("damaged")
        return super()._proc_member(tar)  # type: ignore[misc]


class _Bounded:
    """A stream that will not unpack too far."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self.stream, self.budget = stream, budget

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        if self.budget.spend(len(data)):
            raise Damage("unpacks_too_far")
        return data


def _open(stream: Any) -> _Noticing:
    tar = _Noticing.open(fileobj=stream, mode="r|", tarinfo=_Info, errorlevel=1, ignore_zeros=True)
    assert isinstance(tar, _Noticing)
    return tar


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    """By the first bytes, whatever the name says."""
    head = raw.read(6)
    source = cast(IO[bytes], _Again(head, raw))
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=source))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(source))
    if head.startswith(b"\xfd7zXZ\0"):
        return cast(IO[bytes], lzma.LZMAFile(source))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        return cast(IO[bytes], unpacker.stream_reader(source, read_across_frames=True))
    return source


class _Again:
    """A stream with its first bytes put back."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self.head, self.stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if not self.head:
            return self.stream.read(size)
        data, self.head = (self.head, b"") if size < 0 else (self.head[:size], self.head[size:])
        return data + self.stream.read(size - len(data) if size >= 0 else -1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def _data_of_gem(outer: _Bounded) -> IO[bytes]:
    for info in (tar := _open(outer)):
        if info.name == "data.tar.gz" and info.isreg():
            return cast(IO[bytes], tar.extractfile(info))
    raise Damage("damaged")
