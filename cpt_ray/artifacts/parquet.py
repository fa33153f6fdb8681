"""Parquet with fixed settings: equal tables become equal bytes, on every machine that has the same pyarrow."""

from __future__ import annotations

import hashlib
import posixpath

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.artifacts.manifest import DIGEST, File
from cpt_ray.artifacts.places import locate, write
from cpt_ray.errors import UserError

ROW_GROUP = 65_536


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


def read_schema(path: str) -> pa.Schema:
    """The columns of a Parquet file."""
    fs, target = locate(path)
    with fs.open(target, "rb") as source:
        return pq.ParquetFile(source).schema_arrow.remove_metadata()


def read_table(paths: str | list[str], columns: list[str] | None = None) -> pa.Table:
    """The rows of one or several Parquet files, in the order given, in one table. UserError for a column they lack."""
    names = [paths] if isinstance(paths, str) else paths
    tables = []
    for name in names:
        fs, target = locate(name)
        with fs.open(target, "rb") as source:
            file = pq.ParquetFile(source)
            there = file.schema_arrow.names
            # pyarrow leaves out what is not there without a word.
            if missing := [column for column in columns or [] if column not in there]:
                named = ", ".join(map(repr, missing))
                raise UserError(f"no column {named}", where=name, fix=f"of these: {', '.join(there)}")
            tables.append(file.read(columns=columns))
    return pa.concat_tables(tables)
