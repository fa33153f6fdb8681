"""A folder of sources that is no git repository. Links are not followed, so that nothing is read twice or for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import xxhash

from cpt_ray.code.grammars import language_of
from cpt_ray.code.licences import is_licence_file
from cpt_ray.code.readers import git
from cpt_ray.code.tree import Entry, Wanted, digest_of, parts_of


def holds(path: str) -> bool:
    return os.path.isdir(path) and not git.holds(path)


@contextmanager
def opened(path: str, *_: object) -> Iterator[Folder]:
    yield Folder(path)


class Folder:
    def __init__(self, path: str) -> None:
        self.path = path

    def version(self) -> str:
        """xxh3_128 of the paths and bytes of what could be mined."""
        digest = xxhash.xxh3_128()
        for entry in self.entries():
            if language_of(entry.path) or is_licence_file(entry.path):
                digest.update(f"{entry.path}\0{_digest(entry)}\0".encode())
        return digest.hexdigest()

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        todo = [""]
        while todo:
            inside = todo.pop()
            try:
                listing = list(os.scandir(os.path.join(self.path, inside)))
            except OSError:
                found.append(Entry(_text(inside), reason="unreadable"))
                continue
            for one in listing:
                path = os.path.join(inside, one.name)
                if one.is_symlink() or not (one.is_dir() or one.is_file()):
                    found.append(Entry(_text(path), reason="not_a_file"))
                elif not one.is_dir():
                    found.append(Entry(_text(path), os.path.join(self.path, path), one.stat().st_size))
                elif one.name != ".git":
                    todo.append(path)
        return sorted(found)

    def parts(self, wanted: Wanted) -> int:
        return parts_of(wanted)

    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]:
        for entry in wanted:
            try:
                with open(entry.key, "rb") as handle:
                    yield entry, handle.read(most + 1)
            except OSError:
                yield entry, "unreadable"


def _digest(entry: Entry) -> str:
    try:
        return entry.reason or digest_of(entry.key)
    except OSError:
        return "unreadable"


def _text(path: str) -> str:
    return path.replace(os.sep, "/").encode("utf-8", "replace").decode()
