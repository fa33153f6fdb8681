"""zip: wheels, jars of sources, NuGet packages, what forges give for a commit."""

from __future__ import annotations

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cpt_ray.code.tree import MOST_ENTRIES, Budget, Entry, Wanted, digest_of, parts_of, safe_path, settled, stem_of
from cpt_ray.errors import UserError

ENDINGS = (".zip", ".whl", ".jar", ".egg", ".nupkg")
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError)
"""What zipfile raises for damage: each decompressor has an error of its own (bz2's is OSError), a seek to a wrong offset or a
name that is no text ends in ValueError, a feature or a packing that it does not know in NotImplementedError."""


def holds(path: str) -> bool:
    return path.lower().endswith(ENDINGS) and os.path.isfile(path)


@contextmanager
def opened(path: str, *_: object) -> Iterator[Zip]:
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise UserError(f"this is no zip that can be read: {error}", where=path, fix="fetch it again") from error
    with archive:
        yield Zip(path, archive)


class Zip:
    def __init__(self, path: str, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive

    def version(self) -> str:
        return digest_of(self.path)

    def entries(self) -> list[Entry]:
        found = [_entry(info) for info in self.archive.infolist()[:MOST_ENTRIES] if not info.is_dir()]
        if len(self.archive.infolist()) > MOST_ENTRIES:
            found.append(Entry("", reason="too_many_files"))
        return settled(found, stem_of(self.path, ENDINGS))

    def parts(self, wanted: Wanted) -> int:
        return parts_of(wanted)

    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]:
        budget = Budget(os.path.getsize(self.path))
        for entry in wanted:
            yield entry, "unpacks_too_far" if budget.spend(entry.size or 0) else self._content(entry, most)

    def _content(self, entry: Entry, most: int) -> bytes | str:
        try:
            with self.archive.open(entry.key) as handle:
                return handle.read(most + 1)
        except _BROKEN:
            return "unreadable"


def _entry(info: zipfile.ZipInfo) -> Entry:
    # Some packers of Windows write their own separator.
    path = safe_path(info.filename.replace("\\", "/"))
    kind = stat.S_IFMT(info.external_attr >> 16)
    reason = "encrypted" if info.flag_bits & 1 else None if kind in (0, stat.S_IFREG) else "not_a_file"
    return Entry(path or "", info, info.file_size, "unsafe_path" if path is None else reason)
