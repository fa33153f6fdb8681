"""Documents made ready for deduplication: each URL once, and without the paragraphs that its host repeats.

Both are facts of the whole corpus and not of one archive: which capture of a page is the latest, and on how many of a
host's pages a paragraph stands. Older captures go first, or a page fetched ten times would make its own text furniture.

1. *older captures*: a shard is told which of its rows have a later capture of their URL.
2. *hosts*: a shard is told how many pages its hosts have.
3. *paragraphs*: a shard is told which of its paragraphs stand on so many of them that they go.
4. A map drops both.

Of a small corpus (`parquet.is_small`) 1 to 3 are tables of the whole corpus, made here and handed to every shard; of another,
exchanges by URL, host, and host and paragraph, in which the driver holds nothing of a document.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, Stage, fingerprint, parquet, read_table
from cpt_ray.artifacts.exchange import Sent, buckets_for, by_hash, by_number, receive, send
from cpt_ray.artifacts.places import locate, remove
from cpt_ray.artifacts.store import part_name, phases_of
from cpt_ray.dedup import signatures
from cpt_ray.dedup.options import CleanOptions
from cpt_ray.dedup.paragraphs import COUNTS, count_paragraphs, drop_repeated, host_pages, often, repeated, total
from cpt_ray.errors import UserError

ONE_TABLE = 50_000
"""Documents whose captures and paragraphs are tables in memory; of more, or of more text, they go through exchanges."""
PARAGRAPH_BYTES = 128
"""Of documents, for about one paragraph; only how full a bucket gets depends on it."""
Shard = Mapping[str, Any]
Told: TypeAlias = pa.Table | Sent
"""What shards are told: one table for all, or to each its own."""
FURNITURE = pa.schema([*(COUNTS.field(name) for name in ("host", "paragraph")), pa.field("shard", pa.int32())])
ASKED = pa.schema([*COUNTS, pa.field("pages", pa.int64()), pa.field("shard", pa.int32())])
"""COUNTS of a shard, with the pages of the host in all shards."""
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
    urls = captures["url"].cast(pa.large_string()).combine_chunks().take(pa.array(order))
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

    Columns stay as they are, ids those of the pages as extracted. What is found on the way stays in `<path>.phases` until
    the artifact stands. Raises UserError where a column is missing.
    """
    options = options or CleanOptions()
    files, source = signatures.source_files(documents)
    schema = signatures.source_schema(files)
    needed = [text_column, host_column, *(name for name, _ in LATEST_FIRST if options.once_per_url)]
    for name in needed:
        if name not in schema.names:
            raise UserError(f"no column {name!r}", where=files[0], fix="name the columns, or set once_per_url=false")
    phases = phases_of(path)
    params = {**options.result(), "text_column": text_column, "host_column": host_column}
    if CLEAN.begun(path, params=params, inputs=source) == "done":
        # Puts it in its place, if a kill has left it beside.
        with CLEAN.build(path, params=params, inputs=source) as work:
            assert work.manifest is not None
        remove(*locate(phases))
        return work.manifest
    shards = [{**shard, "number": n} for n, shard in enumerate(parquet.shards_of(files))]
    columns: dict[str, Any] = {"separator": options.separator, "text_column": text_column, "host_column": host_column}
    rows = sum(shard["rows"] for shard in shards)
    across = not parquet.is_small(shards, ONE_TABLE, [text_column])
    seen: dict[str, str | Manifest] = {**source, "clean": fingerprint(params)}
    older: Told = OLDER.empty_table()
    furniture: Told = FURNITURE.empty_table()
    if options.once_per_url:
        if across:
            run = partial(_captures_shard, schema=schema)
            captures = pa.schema([*(schema.field(name) for name, _ in LATEST_FIRST), *OLDER])
            older = _asked(phases, "captures", run, captures, ("url",), shards, rows, _older_shard, OLDER, seen)
        else:
            older = _older_here(posixpath.join(phases, "older_captures"), shards, schema, seen)
    if options.min_documents is not None:
        if across:
            run = partial(_hosts_shard, older=older, host_column=host_column)
            pages = _asked(phases, "hosts", run, ASKED, ("host",), shards, rows, _pages_shard, ASKED, seen)
            run = partial(_paragraphs_shard, older=older, pages=pages, **columns)
            key, count = ("host", "paragraph"), sum(shard["bytes"] for shard in shards) // PARAGRAPH_BYTES
            which = partial(_repeated_shard, options=options)
            furniture = _asked(phases, "paragraphs", run, ASKED, key, shards, count, which, FURNITURE, seen)
        else:
            at = posixpath.join(phases, "paragraphs")
            COUNT.map(at, params=columns, inputs=seen, shards=shards, older=older, **columns)
            furniture = repeated(total(read_table(at)), options)
    made = CLEAN.map(
        path,
        params=params,
        inputs=source,
        shards=shards,
        gives=schema,
        older=older,
        furniture=furniture,
        options=options,
        schema=schema,
        text_column=text_column,
        host_column=host_column,
    )
    remove(*locate(phases))
    return made


def _asked(
    phases: str,
    name: str,
    run: Callable[..., tuple[pa.Table, Ledger]],
    asks: pa.Schema,
    key: Sequence[str],
    shards: Sequence[Shard],
    rows: int,
    answer: Callable[..., tuple[pa.Table, Ledger]],
    gives: pa.Schema,
    inputs: Mapping[str, str | Manifest],
) -> Sent:
    """What `answer` gives to each shard, of a bucket of what all shards ask by `run`; `rows` is about how many that are."""
    buckets = buckets_for(rows)
    to = partial(by_hash, columns=key, buckets=buckets)
    stage = Stage(f"clean-{name}", 1, asks, run=run)
    sent, made = send(
        posixpath.join(phases, name), stage, shards=shards, buckets=buckets, to=to, params={}, inputs=inputs
    )
    stage = Stage(f"clean-{name}-told", 1, gives, run=partial(answer, sent=sent))
    return send(
        posixpath.join(phases, f"{name}-told"),
        stage,
        shards=[{"bucket": bucket} for bucket in range(buckets)],
        buckets=max(len(shards), 1),
        to=partial(by_number, column="shard"),
        params={},
        inputs={name: made},
    )[0]


def _captures_shard(shard: Shard, *, schema: pa.Schema) -> tuple[pa.Table, Ledger]:
    """The captures of a shard that have a URL, and where they stand."""
    columns = [name for name, _ in LATEST_FIRST]
    table = pa.concat_tables([schema.empty_table().select(columns), *parquet.read_batches(shard, columns)])
    place = [pa.array(np.full(len(table), shard["number"], np.int32)), pa.array(np.arange(len(table), dtype=np.int64))]
    for field, column in zip(OLDER, place, strict=True):
        table = table.append_column(field, column)
    named = table.filter(pc.is_valid(table["url"]))
    ledger = Ledger.of("captures", read=len(table), kept=len(named), dropped={"without_url": len(table) - len(named)})
    return named, ledger


def _older_shard(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    table = receive(sent, shard["bucket"])
    older = table.filter(pa.array(older_captures(table))).select(OLDER.names)
    ledger = Ledger.of("captures", read=len(table), kept=len(older), dropped={"latest": len(table) - len(older)})
    return older, ledger


def _hosts_shard(shard: Shard, *, older: Told, host_column: str) -> tuple[pa.Table, Ledger]:
    """How many pages of each host a shard has."""
    tables = [host_pages(batch, host_column) for batch, _ in _latest(shard, older, [host_column])]
    return _ask(shard, total(pa.concat_tables([COUNTS.empty_table(), *tables])))


def _pages_shard(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    """To every shard: how many pages its hosts have in all."""
    table = receive(sent, shard["bucket"], ("host", "shard"))
    return _summed(table, ("host",)), Ledger.of("hosts", read=len(table), kept=len(table))


def _paragraphs_shard(
    shard: Shard, *, older: Told, pages: Sent, separator: str, text_column: str, host_column: str
) -> tuple[pa.Table, Ledger]:
    """On how many pages of their host the paragraphs of a shard stand, of how many that it has."""
    table, _ = _count_shard(shard, older=older, separator=separator, text_column=text_column, host_column=host_column)
    told = receive(pages, shard["number"], ("host",))
    each = table.filter(pc.is_valid(table["paragraph"]))
    of_host = told["pages"].take(pc.index_in(each["host"], value_set=told["host"].combine_chunks()))
    return _ask(shard, each, of_host)


def _repeated_shard(shard: Shard, *, sent: Sent, options: CleanOptions) -> tuple[pa.Table, Ledger]:
    """To every shard: those of its paragraphs that go."""
    table = receive(sent, shard["bucket"], ("host", "paragraph", "shard"))
    summed = _summed(table, ("host", "paragraph"))
    gone = summed.filter(pa.array(often(summed["documents"], summed["pages"], options))).select(FURNITURE.names)
    dropped = {"too_few_documents": len(table) - len(gone)}
    return gone, Ledger.of("paragraphs", read=len(table), kept=len(gone), dropped=dropped)


def _ask(shard: Shard, counts: pa.Table, pages: pa.ChunkedArray | None = None) -> tuple[pa.Table, Ledger]:
    """COUNTS as a shard sends them; without `pages` the documents themselves."""
    number = pa.array(np.full(len(counts), shard["number"], np.int32))
    columns = [*counts.columns, counts["documents"] if pages is None else pages, number]
    return pa.table(columns, schema=ASKED), Ledger.of("counts", read=len(counts), kept=len(counts))


def _summed(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """ASKED with the sum over all shards in place of each one's `documents`, and without a key of paragraphs of `pages`."""
    summed = table.group_by(list(key), use_threads=False).aggregate([("documents", "sum")])
    told = table.join(summed, list(key), join_type="inner", use_threads=False)
    pages = told["documents_sum"] if "paragraph" not in key else told["pages"]
    return pa.table([told["host"], told["paragraph"], told["documents_sum"], pages, told["shard"]], schema=ASKED)


def _older_here(
    path: str, shards: Sequence[Shard], schema: pa.Schema, inputs: Mapping[str, str | Manifest]
) -> pa.Table:
    """(shard, row) of the older captures, kept as an artifact. Reads URLs, times and ids, no text."""
    with OLDER_CAPTURES.build(path, params={}, inputs=inputs) as work:
        if work.manifest is not None:
            return read_table(path)
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
        table = pa.table(found, schema=OLDER)
        work.write(f"{part_name(0)}.parquet", table)
        work.publish(_captures(len(older), len(table)), rows=len(table), schema=OLDER)
        return table


def _captures(read: int, older: int) -> Ledger:
    return Ledger.of("captures", read=read, kept=read - older, dropped={"older_capture": older})


def _latest(shard: Shard, older: Told, columns: Sequence[str] | None) -> Iterator[tuple[pa.Table, int]]:
    """The rows of a shard without its older captures, some at a time, and how many were read for them."""
    told = receive(older, shard["number"]) if isinstance(older, Sent) else older
    gone = np.asarray(told.filter(pc.equal(told["shard"], shard["number"]))["row"])
    start = 0
    for batch in parquet.read_batches(shard, columns):
        stays = ~np.isin(np.arange(start, start + batch.num_rows), gone)
        start += batch.num_rows
        yield batch.filter(pa.array(stays)), batch.num_rows


def _count_shard(
    shard: Shard, *, older: Told, separator: str, text_column: str, host_column: str
) -> tuple[pa.Table, Ledger]:
    tables, rows = [COUNTS.empty_table()], 0
    for batch, _ in _latest(shard, older, [text_column, host_column]):
        tables.append(count_paragraphs(batch, separator, text_column, host_column))
        rows += batch.num_rows
    return total(pa.concat_tables(tables)), Ledger.of("documents", read=rows, kept=rows)


def _clean_shard(
    shard: Shard,
    *,
    older: Told,
    furniture: Told,
    options: CleanOptions,
    schema: pa.Schema,
    text_column: str,
    host_column: str,
) -> tuple[pa.Table, Ledger]:
    tables, ledger = [schema.empty_table()], Ledger.empty()
    if isinstance(furniture, Sent):
        furniture = receive(furniture, shard["number"], ("host", "paragraph"))
    for batch, read in _latest(shard, older, None):
        table, counts = drop_repeated(batch, furniture, options, text_column, host_column)
        tables.append(table)
        ledger += _captures(read, read - batch.num_rows) + counts
    return pa.concat_tables(tables), ledger


OLDER_CAPTURES = Stage("older_captures", version=1, gives=OLDER, unit="captures")
COUNT = Stage("paragraphs", version=1, gives=COUNTS, unit="documents", run=_count_shard)
CLEAN = Stage("clean_documents", version=3, unit="documents", run=_clean_shard)
