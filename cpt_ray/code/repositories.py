"""Repositories, whatever holds them: git, a folder, an archive, Parquet. One function mines them all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, cast

import pyarrow as pa
import xxhash

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.code import filters, readers
from cpt_ray.code.functions import FUNCTIONS, Origin, Source, mine
from cpt_ray.code.grammars import language_of
from cpt_ray.code.history import with_messages
from cpt_ray.code.licences import declared_licence, is_licence_file, is_manifest
from cpt_ray.code.options import CloneOptions, MineOptions
from cpt_ray.code.tree import Entry, Reader, Tree
from cpt_ray.errors import UserError
from cpt_ray.kinds import modules
from cpt_ray.licences import UNKNOWN, texts_licence

logger = logging.getLogger(__name__)

MOST_LICENCE_BYTES = 200_000
_NO_OPTIONS = CloneOptions()


@cache
def known() -> dict[str, Reader]:
    """The readers by name."""
    return {name: cast(Reader, module) for name, module in modules(readers.__name__).items()}


def opened(path: str, revision: str = "", clone: CloneOptions = _NO_OPTIONS) -> AbstractContextManager[Tree]:
    """The tree at `path`, which may be a URL; UserError where nothing is there, or nothing that any reader knows."""
    reader = _reader(path)
    if reader is None and not os.path.exists(path):
        raise UserError("there is no such file or folder", where=path, fix="give a repository, a folder or an archive")
    if reader is None:
        raise UserError("nothing here knows how to read this", where=path, fix=f"names end in {', '.join(endings())}")
    if revision not in ("", "HEAD") and not _has_revisions(reader):
        raise UserError(f"only a git repository has a revision {revision}", where=path, fix="leave out commit")
    return reader.opened(path, revision, clone)


def _reader(path: str) -> Reader | None:
    return next((one for one in known().values() if one.holds(path)), None)


def _has_revisions(reader: Reader | None) -> bool:
    return getattr(reader, "REVISIONS", False)


def endings() -> tuple[str, ...]:
    """How the names of files end that can be read, the longest first."""
    return tuple(
        sorted({end for one in known().values() for end in getattr(one, "ENDINGS", ())}, key=len, reverse=True)
    )


def shards_of(
    path: str, revision: str, options: MineOptions, about: Mapping[str, Any], clone: CloneOptions = _NO_OPTIONS
) -> list[dict[str, Any]]:
    """The tree at `path` as shards for `mine_repository_shard`, with its content as it is now; `about` goes into each."""
    with opened(path, revision, clone) as tree:
        version = tree.version()
        parts = tree.parts(lambda: [entry for entry in tree.entries() if _reason(entry, options) is None])
    commit = version if _has_revisions(_reader(path)) else ""
    shard: dict[str, Any] = {"repository": path, "commit": commit, "version": version, **about}
    if "://" in path:
        shard["clone"] = clone.model_dump(mode="json")
    return [{**shard, "slice": [i, parts]} for i in range(parts)]


def mine_listed_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """`mine_repository_shard`, where one repository of many that cannot be read costs itself alone.

    It is counted among the `repositories` as `unreadable`, and said on the log.
    """
    try:
        if shard.get("problem"):
            raise UserError(str(shard["problem"]), where=str(shard["repository"]), fix=str(shard["fix"]))
        table, ledger = mine_repository_shard(shard, options)
        return table, _counted(shard, None) + ledger
    except UserError as problem:
        logger.warning("left out: %s", problem)
        return FUNCTIONS.empty_table(), _counted(shard, "unreadable")


def _counted(shard: Mapping[str, Any], reason: str | None) -> Ledger:
    """One of the `repositories`, in its place between its files and their functions; if cut, by its first slice."""
    first = (shard.get("slice") or (0, 1))[0] == 0
    one = Ledger.count("repositories", [reason] if first else [])
    return Ledger.count("files", []) + one + Ledger.count("functions", [])


def mine_repository_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of `{"repository": path, "commit": revision, "version"?, "group", "licence"?, "slice"?: [i, n],
    "clone"?: CloneOptions, "listed"?: {"stars", "forks", "licence"}}`; `listed` is what its forge says of it, whose licence
    counts where there is no licence file.

    `version` of the rows is the full commit id, or a digest of what has no commits. A slice takes the files whose path
    hashes to i of n, so that a large repository becomes many shards. What is not there is dropped as `missing_blob`.
    """
    clone = CloneOptions(**shard.get("clone") or {})
    with opened(str(shard["repository"]), str(shard.get("commit") or ""), clone) as tree:
        part, of = shard.get("slice") or (0, 1)
        entries = tree.entries()
        listed = shard.get("listed") or {}
        licence = shard.get("licence")
        if not licence:
            licence = _licence(tree, entries) or listed.get("licence") or UNKNOWN
        version = str(shard.get("version") or tree.version())
        origin = Origin(shard["group"], version, licence, listed.get("stars"), listed.get("forks"))
        mined = entries if of == 1 else [entry for entry in entries if _slot(entry) % of == part]
        table, ledger = mine(_sources(tree, mined, options), origin, options)
        if options.history.commits:
            table, told = with_messages(table, tree, options)
            ledger += told + Ledger.count("functions", [])  # before what came out
        return table, ledger


def _licence(tree: Tree, entries: Sequence[Entry]) -> str | None:
    """That of the licence files at the top that are there, and of those that a wheel or a jar keeps apart.

    Where there are none it is the one that all manifests declare which declare one.
    """
    texts = [data.decode("utf-8", "replace") for _, data in _small_files(tree, entries, is_licence_file)]
    if texts:
        return texts_licence(texts)
    declared = {declared_licence(path, data) for path, data in _small_files(tree, entries, is_manifest)} - {None}
    return declared.pop() if len(declared) == 1 else None


def _small_files(tree: Tree, entries: Sequence[Entry], chosen: Callable[[str], bool]) -> list[tuple[str, bytes]]:
    """Those of a repository's own files that can be read, by path."""
    wanted = [
        entry
        for entry in entries
        if chosen(entry.path)
        and (entry.reason, entry.origin) == (None, None)
        and (entry.size is not None or entry.absent)
        and (entry.size or 0) <= MOST_LICENCE_BYTES
    ]
    found = [(entry.path, data) for entry, data in tree.contents(wanted, MOST_LICENCE_BYTES)] if wanted else []
    return [(path, data) for path, data in sorted(found) if isinstance(data, bytes)]


def _sources(tree: Tree, entries: Sequence[Entry], options: MineOptions) -> Iterator[Source]:
    wanted = []
    for entry in entries:
        reason = _reason(entry, options)
        if reason is None:
            wanted.append(entry)
        else:
            yield Source(entry.path, None, reason, entry.origin)
    if wanted:
        for entry, data in tree.contents(wanted, options.max_file_bytes):
            found, reason = (data, None) if isinstance(data, bytes) else (None, data)
            yield Source(entry.path, found, reason, entry.origin)


def _reason(entry: Entry, options: MineOptions) -> str | None:
    """Why a file need not be read at all; the same names as in `mine_source`."""
    if entry.reason is not None:
        return entry.reason
    if language_of(entry.path) not in options.languages:
        return "other_language"
    reason = filters.path_reason(entry.path, options)
    if reason is not None:
        return reason
    if entry.size is None:
        return None if entry.absent else "missing_blob"
    return "too_large" if entry.size > options.max_file_bytes else None


def _slot(entry: Entry) -> int:
    return entry.slot if entry.slot is not None else xxhash.xxh3_64_intdigest(entry.path.encode())
