"""Parquet with fixed settings: equal tables become equal bytes, on every machine that has the same pyarrow."""

from __future__ import annotations

import hashlib
import itertools
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpt_ray.artifacts.manifest import DIGEST, File
from cpt_ray.artifacts.places import locate, write
from cpt_ray.errors import UserError

ROW_GROUP = 65_536
BATCH_ROWS, BATCH_BYTES = 2048, 64 << 20
"""Rows of a shard that are read at a time, at most: what is held in memory is these, not their row group."""
TABLE_BYTES = 64 << 20
"""Of text in a table that a step holds whole: with all that is made of it, ten times as much is alive."""


def encoded(table: pa.Table, *, row_group_size: int = ROW_GROUP) -> bytes:
    """The bytes of a file with these rows; schema metadata is dropped."""
    # Chunk boundaries of the table must not show in the file: rows alone decide its bytes.
    plain = table.replace_schema_metadata(None).combine_chunks()
    buffer = pa.BufferOutputStream()
    pq.write_table(plain, buffer, compression="zstd", compression_level=3, row_group_size=row_group_size)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def write_table(path: str, table: pa.Table, *, row_group_size: int = ROW_GROUP) -> File:
    """Write `table` to `path` (any fsspec URI), whole or not at all; schema metadata is dropped.

    Returns its size and digest, as the manifest has them, under the last part of the path.
    """
    fs, target = locate(path)
    content = encoded(table, row_group_size=row_group_size)
    write(fs, target, content)
    return File(path=posixpath.basename(target), size=len(content), digest=digest_of(content))


def digest_of(content: bytes) -> str:
    """The digest of a file's bytes, as the manifest has it."""
    return hashlib.sha256(content).hexdigest()[:DIGEST]


@contextmanager
def opened(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file, to be read in pieces. UserError for what is none."""
    fs, target = locate(path)
    with fs.open(target, "rb") as source:
        try:
            file = pq.ParquetFile(source)
        except (pa.ArrowInvalid, OSError) as error:  # the latter of a damaged footer
            raise UserError(f"this is no Parquet: {error}", where=path, fix="give Parquet files") from error
        with file:
            yield file


def must_be_parquet(path: str) -> None:
    """UserError unless a file begins and ends with PAR1. In a bucket that would be two requests for each: nobody looks."""
    if "://" in path:
        return
    with open(path, "rb") as source:
        first, size = source.read(4), os.fstat(source.fileno()).st_size
        last = os.pread(source.fileno(), 4, max(size - 4, 4))
    if (first, last) != (b"PAR1", b"PAR1"):
        raise UserError("this is no Parquet, or not whole", where=path, fix="give Parquet files")


def must_have(file: pq.ParquetFile, path: str, columns: Iterable[str]) -> None:
    """UserError for columns that a file lacks, which pyarrow leaves out without a word, or has twice."""
    there = file.schema_arrow.names
    if missing := [name for name in columns if name not in there]:
        named = ", ".join(map(repr, missing))
        raise UserError(f"no column {named}", where=path, fix=f"of these: {', '.join(there)}")
    if twice := [name for name in columns if there.count(name) > 1]:
        raise UserError(f"several columns {twice[0]!r}", where=path, fix="give each a name of its own")


def read_schema(path: str) -> pa.Schema:
    """The columns of a Parquet file."""
    with opened(path) as file:
        return file.schema_arrow.remove_metadata()


def read_table(paths: str | list[str], columns: list[str] | None = None) -> pa.Table:
    """The rows of one or several Parquet files, in the order given, in one table. UserError for a column they lack."""
    names = [paths] if isinstance(paths, str) else paths
    tables = []
    for name in names:
        with opened(name) as file:
            must_have(file, name, columns or ())
            tables.append(file.read(columns=columns))
    return pa.concat_tables(tables)


def shards_of(files: Sequence[str]) -> list[dict[str, Any]]:
    """One shard per row group: {"path", "group", "rows", "bytes" before compression}."""
    found = []
    for name in files:
        with opened(name) as file:
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                found.append({"path": name, "group": number, "rows": group.num_rows, "bytes": group.total_byte_size})
    return found


def is_small(shards: Sequence[Mapping[str, Any]], rows: int, texts: Sequence[str]) -> bool:
    """Whether these (`shards_of`) are at most so many rows, and TABLE_BYTES of text in these columns: to be held as one
    table. A function of the rows, however they are cut into files."""
    left = TABLE_BYTES
    if sum(shard["rows"] for shard in shards) > rows:
        return False
    for batch in itertools.chain.from_iterable(read_batches(shard, texts) for shard in shards):
        left -= sum(pc.sum(pc.binary_length(batch[name])).as_py() or 0 for name in texts)
        if left < 0:
            return False
    return True


def slices_of(files: Sequence[str], rows: int) -> list[dict[str, Any]]:
    """The rows of Parquet files in pieces of at most so many, none across two files: {"part", "start", "rows"}."""
    found = []
    for name in files:
        with opened(name) as file:
            count = file.metadata.num_rows
        found += [{"part": name, "start": at, "rows": min(rows, count - at)} for at in range(0, count, rows)]
    return found


def read_slice(piece: Mapping[str, Any], columns: Sequence[str]) -> pa.Table:
    """The rows of one of `slices_of`; of their file the row groups that hold them are read. UserError for a column that
    is not there."""
    with opened(piece["part"]) as file:
        must_have(file, piece["part"], columns)
        groups, skipped, before, end = [], 0, 0, piece["start"] + piece["rows"]
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if before < end and before + count > piece["start"]:
                groups.append(group)
            elif before + count <= piece["start"]:
                skipped += count
            before += count
        table = file.read_row_groups(groups, columns=list(dict.fromkeys(columns)), use_threads=False)
        return table.slice(piece["start"] - skipped, piece["rows"])


def read_batches(shard: Mapping[str, Any], columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """The rows of a shard, some at a time, and of an empty one none, once; None reads all columns. UserError for a column
    that is not there."""
    with opened(shard["path"]) as file:
        group = file.metadata.row_group(shard["group"])
        rows = BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
        wanted = None if columns is None else list(dict.fromkeys(columns))
        must_have(file, shard["path"], wanted or ())
        if not group.num_rows:  # a part of which nothing was kept
            empty = file.schema_arrow.remove_metadata().empty_table()
            yield empty if wanted is None else empty.select(wanted)
        for batch in file.iter_batches(
            min(max(rows, 1), BATCH_ROWS), row_groups=[shard["group"]], columns=wanted, use_threads=False
        ):
            yield pa.table(batch)
