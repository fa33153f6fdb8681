"""Further reasons to drop a document or ways to change it, a file each; `extract.filters` lists those that apply.

A filter is a class of options with `kind` (kinds.py) that derives from Filter. Filters judge what the quality rules have
passed, in the order of the list, and the first reason counts.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from cpt_ray.errors import UserError
from cpt_ray.options import Options


class Document(NamedTuple):
    """What a filter sees: the normalised URL, the title, the main text, its ISO 639-1 language, a classifier's score."""

    url: str
    title: str
    text: str
    language: str
    score: float | None = None


class Filter(Options):
    """What a module of this folder gives."""

    @abstractmethod
    def reason(self, document: Document) -> str | None:
        """The name under which the ledger counts the document, None to keep it. Pure."""

    def changed(self, document: Document) -> Document:
        """The document as it goes on, where it is not dropped. Pure."""
        return document

    def files(self) -> list[Path]:
        """The files it reads, whose content is a part of its identity."""
        return []


def identity(filters: Sequence[Filter]) -> list[dict[str, Any]]:
    """What decides the result: the options of each filter with the SHA-256 of its files' content in place of their paths.

    UserError for a file that cannot be read."""
    return [{**_without_paths(one), "files": [_digest(path) for path in one.files()]} for one in filters]


def check(filters: Sequence[Filter]) -> None:
    """UserError for a file that cannot be read, before anything starts; nothing of it is read."""
    for path in (path for one in filters for path in one.files()):
        with _reading(path):
            pass


def state(path: str | Path) -> tuple[int, int]:
    """(time of change in ns, bytes) of a filter's file, by which what is kept of it in memory is known to be of today.

    UserError where it cannot be read."""
    try:
        there = Path(path).stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return there.st_mtime_ns, there.st_size


def _without_paths(one: Filter) -> dict[str, Any]:
    paths = set(map(str, one.files()))
    return {name: value for name, value in one.result().items() if not (isinstance(value, str) and value in paths)}


def _digest(path: Path) -> str:
    with _reading(path) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as source:
            yield source
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | Path, error: OSError) -> UserError:
    fix = "look at extract.filters; on a cluster every machine must have it"
    return UserError(f"a filter's file cannot be read: {error.strerror}", where=str(path), fix=fix)
