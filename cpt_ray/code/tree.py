"""A tree of source files as a reader gives it: what is there, what may not be read and why, and the bytes asked for.

Nothing is ever unpacked to disk, so that a path is a name and no more; it must be one all the same, because rows are
traced by it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import xxhash

from cpt_ray.code.functions import Origin
from cpt_ray.code.licences import is_licence_file
from cpt_ray.code.options import CloneOptions

MOST_RATIO, FREE_BYTES = 100, 256_000_000
"""Source text shrinks to a tenth at best: what unpacks to more than FREE_BYTES and a hundred times its size is a bomb."""
MOST_ENTRIES = 2_000_000
"""The Linux kernel has eighty thousand files."""


class Entry(NamedTuple):
    """A file of a tree: `key` is what its reader finds it by, `size` its bytes, None where they are not there.

    `absent`: they are not there, and can be had. `reason`: why the reader will not give its bytes. `origin` is its own
    where the tree holds several repositories; `slot` is which of its parts the tree keeps it in, where it keeps to parts.
    """

    path: str
    key: Any = None
    size: int | None = None
    reason: str | None = None
    origin: Origin | None = None
    slot: int | None = None
    absent: bool = False


Wanted = Callable[[], list[Entry]]


class Tree(Protocol):
    """Opened for reading; a context manager.

    `version` names the content: a commit, or a digest. `parts`: into how many it is best cut to mine what `wanted` lists.
    `contents` gives each of the entries asked for once, in any order, with its bytes or the reason that there are none;
    of a file over `most` bytes it may give the first of them alone.
    """

    def version(self) -> str: ...
    def entries(self) -> list[Entry]: ...
    def parts(self, wanted: Wanted) -> int: ...
    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]: ...


class Reader(Protocol):
    """A module of `readers`."""

    def holds(self, path: str) -> bool: ...
    def opened(self, path: str, revision: str, clone: CloneOptions) -> AbstractContextManager[Tree]: ...


PART_BYTES = 32_000_000
"""Some seconds of mining, beside which listing the tree once more is little."""


def parts_of(wanted: Wanted) -> int:
    """How many parts of about PART_BYTES there are in these."""
    return max(1, round(sum(entry.size or 0 for entry in wanted()) / PART_BYTES))


class Budget:
    """How far an archive of `packed` bytes may unpack; `spend` says whether it has gone too far."""

    def __init__(self, packed: int) -> None:
        self.left = FREE_BYTES + MOST_RATIO * packed

    def spend(self, size: int) -> bool:
        self.left -= size
        return self.left < 0


_DRIVE = re.compile(r"[A-Za-z]:")


def safe_path(name: str) -> str | None:
    """The name of an archive's member as a relative path; None where it leads out of the archive or to nowhere."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or _DRIVE.match(name):
        return None
    return "/".join(parts).encode("utf-8", "replace").decode()


def settled(entries: Sequence[Entry], stem: str) -> list[Entry]:
    """Members of the archive called `stem` as files of its project: of several with one path the last, as `tar` has it,
    and without the folder that a packer puts around all of them (`package/`, `name-1.0/`, `name-main/`)."""
    last = {entry.path: i for i, entry in enumerate(entries) if entry.reason is None}
    entries = [
        entry if entry.reason or last[entry.path] == i else entry._replace(reason="replaced")
        for i, entry in enumerate(entries)
    ]
    tops = {entry.path.partition("/")[0] for entry in entries if entry.reason is None}
    if len(tops) != 1 or not _wraps(next(iter(tops)), [entry.path for entry in entries if entry.reason is None], stem):
        return entries
    return [entry._replace(path=entry.path.partition("/")[2] or entry.path) for entry in entries]


def _wraps(top: str, paths: Sequence[str], stem: str) -> bool:
    """Whether the one folder at the top is a packer's: by its name, or because a project's licence lies in it."""
    if top in paths:
        return False
    return top in ("package", stem) or any(is_licence_file(path.removeprefix(f"{top}/")) for path in paths)


def stem_of(path: str, endings: Sequence[str]) -> str:
    """A file's name without the longest of the endings it has."""
    name = os.path.basename(path)
    return name[: len(name) - max((len(one) for one in endings if name.lower().endswith(one)), default=0)]


def digest_of(path: str) -> str:
    """xxh3_128 of a file's bytes."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
