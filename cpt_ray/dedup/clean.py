"""Documents made ready for deduplication: each URL once, and without the paragraphs that its host repeats.

Both are facts of the whole corpus and not of one archive: which capture of a page is the latest, and on how many of a
host's pages a paragraph stands. Older captures go first, or a page fetched ten times would make its own text furniture.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, read_table
from cpt_ray.artifacts.columns import whole
from cpt_ray.dedup import signatures
from cpt_ray.dedup.options import CleanOptions
from cpt_ray.dedup.paragraphs import COUNTS, count_paragraphs, drop_repeated, repeated, total
from cpt_ray.errors import UserError

OLDER = pa.schema([pa.field("shard", pa.int32()), pa.field("row", pa.int64())])
LATEST_FIRST = (
    ("url", "ascending"),
    ("fetched_at", "descending"),
    ("doc_id", "ascending"),
    ("warc_file", "ascending"),
    ("warc_offset", "ascending"),
)


def older_captures(captures: pa.Table) -> np.ndarray:
    """[rows] bool: whether a later capture of the same URL is in the table (columns: those of LATEST_FIRST).

    One without a time is older than any other; of equal times, the smallest id, file and offset stay. Documents without
    a URL are nobody's captures.
    """
    order = np.asarray(pc.sort_indices(captures, sort_keys=list(LATEST_FIRST))).astype(np.int64)
    urls = whole(captures["url"]).take(pa.array(order))
    older = np.zeros(len(order), bool)
    older[order[1:]] = np.asarray(pc.fill_null(pc.equal(urls[1:], urls[:-1]), False))
    return older


def clean_documents(
    path: str,
    documents: str | Sequence[str],
    *,
    options: CleanOptions | None = None,
    text_column: str = "text",
    host_column: str = "host",
) -> Manifest:
    """Publish `documents` (an artifact or Parquet files) without older captures and repeated paragraphs.

    Columns stay as they are, ids those of the pages as extracted. What is found on the way stays in `<path>.phases`.
    Raises UserError where a column is missing.
    """
    options = options or CleanOptions()
    files, source = signatures.source_files(documents)
    inputs: dict[str, str | Manifest] = {**source}
    schema = signatures.source_schema(files)
    needed = [text_column, host_column, *(name for name, _ in LATEST_FIRST if options.once_per_url)]
    for name in needed:
        if name not in schema.names:
            raise UserError(f"no column {name!r}", where=files[0], fix="name the columns, or set once_per_url=false")
    shards = [{**shard, "number": n} for n, shard in enumerate(parquet.shards_of(files))]
    phases = path.rstrip("/") + ".phases"
    older, furniture = OLDER.empty_table(), COUNTS.empty_table().drop_columns(["documents"])
    if options.once_per_url:
        at = posixpath.join(phases, "older_captures")
        inputs["older_captures"] = _write_older(at, shards, schema, source)
        older = read_table(at)
    if options.min_documents is not None:
        columns: dict[str, Any] = {
            "separator": options.separator,
            "text_column": text_column,
            "host_column": host_column,
        }
        at = posixpath.join(phases, "paragraphs")
        inputs["paragraphs"] = COUNT.map(at, params=columns, inputs=inputs, shards=shards, older=older, **columns)
        furniture = repeated(total(read_table(at)), options)
    return CLEAN.map(
        path,
        params={**options.result(), "text_column": text_column, "host_column": host_column},
        inputs=inputs,
        shards=shards,
        gives=schema,
        older=older,
        furniture=furniture,
        options=options,
        schema=schema,
        text_column=text_column,
        host_column=host_column,
    )


def _write_older(
    path: str, shards: Sequence[Mapping[str, Any]], schema: pa.Schema, inputs: Mapping[str, str]
) -> Manifest:
    """(shard, row) of the older captures, as an artifact. Reads URLs, times and ids, no text."""
    with OLDER_CAPTURES.build(path, params={}, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        columns = [name for name, _ in LATEST_FIRST]
        tables = [schema.empty_table().select(columns)]
        shard, row = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for each in shards:
            batches = list(parquet.read_batches(each, columns))
            rows = sum(batch.num_rows for batch in batches)
            tables += batches
            shard.append(np.full(rows, each["number"], np.int32))
            row.append(np.arange(rows))
        older = older_captures(pa.concat_tables(tables))
        found = [pa.array(np.concatenate(column)[older]) for column in (shard, row)]
        work.write("part-00000.parquet", pa.table(found, schema=OLDER))
        count = int(older.sum())
        return work.publish(_captures(len(older), count), rows=count, schema=OLDER)


def _captures(read: int, older: int) -> Ledger:
    return Ledger.of("captures", read=read, kept=read - older, dropped={"older_capture": older})


def _latest(shard: Mapping[str, Any], older: pa.Table, columns: Sequence[str] | None) -> Iterator[tuple[pa.Table, int]]:
    """The rows of a shard without its older captures, some at a time, and how many were read for them."""
    gone = np.asarray(older.filter(pc.equal(older["shard"], shard["number"]))["row"])
    start = 0
    for batch in parquet.read_batches(shard, columns):
        stays = ~np.isin(np.arange(start, start + batch.num_rows), gone)
        start += batch.num_rows
        yield batch.filter(pa.array(stays)), batch.num_rows


def _count_shard(
    shard: Mapping[str, Any], *, older: pa.Table, separator: str, text_column: str, host_column: str
) -> tuple[pa.Table, Ledger]:
    tables, rows = [COUNTS.empty_table()], 0
    for batch, _ in _latest(shard, older, [text_column, host_column]):
        tables.append(count_paragraphs(batch, separator, text_column, host_column))
        rows += batch.num_rows
    return total(pa.concat_tables(tables)), Ledger.of("documents", read=rows, kept=rows)


def _clean_shard(
    shard: Mapping[str, Any],
    *,
    older: pa.Table,
    furniture: pa.Table,
    options: CleanOptions,
    schema: pa.Schema,
    text_column: str,
    host_column: str,
) -> tuple[pa.Table, Ledger]:
    tables, ledger = [schema.empty_table()], Ledger.empty()
    for batch, read in _latest(shard, older, None):
        table, counts = drop_repeated(batch, furniture, options, text_column, host_column)
        tables.append(table)
        ledger += _captures(read, read - batch.num_rows) + counts
    return pa.concat_tables(tables), ledger


OLDER_CAPTURES = Stage("older_captures", version=1, gives=OLDER, unit="captures")
COUNT = Stage("paragraphs", version=1, gives=COUNTS, unit="documents", run=_count_shard)
CLEAN = Stage("clean_documents", version=3, unit="documents", run=_clean_shard)
