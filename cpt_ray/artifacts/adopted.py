"""Parquet files of somebody else as an artifact: they stay where they are, and its manifest names them by their content."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import DIGEST, File, Manifest, fingerprint
from cpt_ray.artifacts.parquet import opened
from cpt_ray.artifacts.places import locate, renames, write
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import MANIFEST, part_name
from cpt_ray.errors import UserError

ADOPTED = Stage("adopted", version=1)
PARQUET = (".parquet", ".pq")
READERS = 8
"""Files that are read at once, for their digests."""
PIECE = 1 << 20


def is_artifact(path: str) -> bool:
    """Whether an artifact is published at `path`."""
    fs, target = locate(path)
    return bool(fs.exists(posixpath.join(target, MANIFEST)))


def find_parquet(path: str) -> list[str]:
    """The Parquet files at `path`, a file, a folder with all below it, or a pattern, here or in a bucket; sorted. UserError
    where there are none."""
    scheme, separator, _ = path.partition("://")
    fs, target = locate(path)
    if "*" in target:
        found = fs.glob(target)
    else:
        found = [target] if fs.isfile(target) else fs.find(target)
        # What a writer has hidden, as _SUCCESS and what it has not finished; a file that is named is meant.
        found = [name for name in found if name == target or not _hidden(posixpath.relpath(name, target))]
    named = sorted(name for name in found if name == target or name.endswith(PARQUET))
    if not named:
        if renames(fs) and os.path.isdir(target):
            os.listdir(target)  # what may not be read is not empty: fsspec says nothing of it
        raise UserError(
            "there is no artifact and no Parquet here", where=path, fix="give a file, a folder or a pattern"
        )
    return [f"{scheme}://{name}" if separator else name for name in named]


def adopt(path: str, *, source: str) -> Manifest:
    """Publish at `path` the Parquet files at `source`, in the order of their names. They are read whole for their digests,
    and not copied. UserError for files of different columns."""
    files = find_parquet(source)
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(_looked_at, files))
    schema, rows = found[0][1], sum(count for _, _, count in found)
    for name, (_, other, _) in zip(files, found, strict=True):
        if other != schema:
            raise UserError(
                f"columns of another name or type than those of {files[0]}: {unlike(schema, other)}",
                where=name,
                fix="give files of the same columns",
            )
    content = fingerprint([file.digest for file, _, _ in found])
    with ADOPTED.build(path, params={}, inputs={"content": content}) as work:
        told = [
            file.named(f"{part_name(number)}.parquet", name)
            for number, (name, (file, _, _)) in enumerate(zip(files, found, strict=True))
        ]
        if work.manifest is not None:
            return _moved(path, work.manifest, told)
        return work.publish(Ledger.of("rows", read=rows, kept=rows), rows=rows, schema=schema, files=told)


def _moved(path: str, standing: Manifest, files: list[File]) -> Manifest:
    """The same content, which may lie elsewhere now: where is no part of what an artifact is."""
    if standing.files == files:
        return standing
    moved = standing.model_copy(update={"files": files})
    fs, target = locate(path)
    write(fs, posixpath.join(target, MANIFEST), (moved.model_dump_json(indent=1) + "\n").encode())
    return moved


def _looked_at(name: str) -> tuple[File, pa.Schema, int]:
    """Size and digest, columns and rows."""
    with opened(name) as file:
        schema, rows = file.schema_arrow.remove_metadata(), file.metadata.num_rows
    fs, target = locate(name)
    digest, size = hashlib.sha256(), 0
    with fs.open(target, "rb") as source:
        while piece := source.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return File(path=posixpath.basename(target), size=size, digest=digest.hexdigest()[:DIGEST]), schema, rows


def _hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) and part != "." for part in path.split("/"))


def unlike(one: pa.Schema, other: pa.Schema) -> str:
    """In which columns two schemas differ, and how: `text string -> null`."""

    def said(schema: pa.Schema) -> dict[str, Any]:
        return dict(zip(schema.names, map(str, schema.types), strict=True))

    first, second = said(one), said(other)
    names: Sequence[str] = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name} {first.get(name)} -> {second.get(name)}" for name in names[:5]) or "their order"
