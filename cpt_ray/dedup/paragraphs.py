"""The exact layer below documents: paragraphs that a host repeats on many of its pages (menus, footers, notices)."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from cpt_ray.artifacts import Ledger, Manifest, read_table, run_shards
from cpt_ray.dedup import minhash, shingles, signatures
from cpt_ray.dedup.kernels import U64
from cpt_ray.options import Options

VERSION = 1

COUNTS = pa.schema(
    [pa.field("host", pa.string()), pa.field("paragraph", pa.uint64()), pa.field("documents", pa.int64())]
)


class ParagraphOptions(Options):
    """Which paragraphs are a host's own furniture."""

    min_documents: int = Field(default=5, ge=2, description="pages of one host that hold a paragraph before it goes")
    min_words: int = Field(default=1, ge=1, description="shorter paragraphs are never dropped")


def count_paragraphs(table: pa.Table, text_column: str = "text", host_column: str = "host") -> pa.Table:
    """COUNTS: in how many documents of each host a paragraph stands, once per document."""
    split = _Paragraphs(table.column(text_column))
    worded = split.words > 0
    seen = pa.table(
        {
            "host": table.column(host_column).cast(pa.string()).take(pa.array(split.document[worded])),
            "document": pa.array(split.document[worded]),
            "paragraph": pa.array(split.content[worded]),
        }
    )
    once = seen.group_by(["host", "document", "paragraph"], use_threads=False).aggregate([])
    return _total(once.append_column("documents", pa.array(np.ones(once.num_rows, np.int64))))


def drop_repeated(
    table: pa.Table, repeated: pa.Table, options: ParagraphOptions, text_column: str = "text", host_column: str = "host"
) -> tuple[pa.Table, Ledger]:
    """`table` with the paragraphs of `repeated` (host, paragraph) taken out of its texts; documents that were nothing
    else are dropped. A paragraph is a line; lines without a word stay."""
    column = table.column(text_column)
    split = _Paragraphs(column)
    hosts = table.column(host_column).cast(pa.string()).combine_chunks().dictionary_encode()
    number = {name: n for n, name in enumerate(hosts.dictionary.to_pylist())}
    known = np.array([number.get(host, -1) for host in repeated["host"].to_pylist()], np.int64)
    of_host = np.asarray(hosts.indices.fill_null(-1))[split.document]
    drop = _pairs_in(of_host, split.content, known, np.asarray(repeated["paragraph"]))
    drop &= split.words >= options.min_words
    keep = ~drop
    # Lists of what is left, joined again: the offsets count the kept paragraphs of every document.
    kept_before = np.r_[0, np.cumsum(keep)][split.offsets]
    lists = pa.LargeListArray.from_arrays(pa.array(kept_before, pa.int64()), split.texts.filter(pa.array(keep)))
    text = pc.binary_join(lists, pa.scalar("\n", pa.large_string())).cast(column.type)
    touched = np.bincount(split.document[drop], minlength=table.num_rows) > 0
    words_left = np.bincount(split.document[keep], weights=split.words[keep], minlength=table.num_rows)
    emptied = touched & (words_left == 0)
    at = table.schema.get_field_index(text_column)
    cleaned = table.set_column(at, table.schema.field(at), text).filter(pa.array(~emptied))
    ledger = Ledger.of(
        "paragraphs", read=len(keep), kept=int(keep.sum()), dropped={"repeated_within_host": int(drop.sum())}
    ) + Ledger.of(
        "documents",
        read=table.num_rows,
        kept=cleaned.num_rows,
        dropped={"only_repeated_paragraphs": int(emptied.sum())},
    )
    return cleaned, ledger


def repeated_paragraphs(
    path: str,
    documents: str | Sequence[str],
    *,
    options: ParagraphOptions | None = None,
    text_column: str = "text",
    host_column: str = "host",
) -> Manifest:
    """Publish `documents` without the paragraphs that their hosts repeat. Ids stay those of the pages as extracted."""
    options = options or ParagraphOptions()
    files, inputs = signatures.source_files(documents)
    shards = signatures.shards_of(files)
    columns: dict[str, Any] = {"text_column": text_column, "host_column": host_column}
    counted = run_shards(
        posixpath.join(path.rstrip("/") + ".phases", "counts"),
        step="paragraph-counts",
        version=VERSION,
        params=columns,
        inputs=inputs,
        shards=shards,
        work=partial(_count_shard, **columns),
        schema=COUNTS,
        unit="documents",
    )
    counts = _total(read_table(posixpath.join(path.rstrip("/") + ".phases", "counts")))
    repeated = counts.filter(pc.greater_equal(counts["documents"], options.min_documents)).drop_columns(["documents"])
    return run_shards(
        path,
        step="paragraphs",
        version=VERSION,
        params={**columns, **options.model_dump(mode="json")},
        inputs={**inputs, "counts": counted},
        shards=shards,
        work=partial(_drop_shard, repeated=repeated, options=options, **columns),
        schema=signatures.source_schema(files),
        unit="paragraphs",
    )


def _count_shard(shard: Mapping[str, Any], *, text_column: str, host_column: str) -> tuple[pa.Table, Ledger]:
    batches = list(signatures.read_batches(shard, [text_column, host_column]))
    rows = sum(batch.num_rows for batch in batches)
    counts = [count_paragraphs(batch, text_column, host_column) for batch in batches]
    return _total(pa.concat_tables([COUNTS.empty_table(), *counts])), Ledger.of("documents", read=rows, kept=rows)


def _drop_shard(
    shard: Mapping[str, Any], *, repeated: pa.Table, options: ParagraphOptions, text_column: str, host_column: str
) -> tuple[pa.Table, Ledger]:
    tables, ledger = [], Ledger.empty()
    for batch in signatures.read_batches(shard, None):
        table, counts = drop_repeated(batch, repeated, options, text_column, host_column)
        tables.append(table)
        ledger += counts
    return pa.concat_tables(tables), ledger


class _Paragraphs:
    """The lines of every document: texts, document [lines] (number of the row), words and content hash of each."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        text = pc.fill_null(column.cast(pa.large_string()), "").combine_chunks()
        lists = pc.split_pattern(text, "\n")
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        self.texts = lists.flatten()
        lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
        self.offsets = np.r_[0, np.cumsum(lengths)]
        self.document = np.repeat(np.arange(len(lengths)), lengths)
        # One permutation, not used: what is wanted is the content hash that comes with a signature.
        found = minhash.sign(self.texts, count=1)
        self.words = found.words.astype(np.int64)
        self.content: U64 = found.content[:, 0] ^ (found.content[:, 1] * np.uint64(shingles.ODD))


def _pairs_in(host: np.ndarray, content: U64, known_host: np.ndarray, known_content: U64) -> np.ndarray:
    """[lines] bool: whether (host, content) stands among the known pairs."""
    pair = np.dtype([("host", np.int64), ("content", np.uint64)])
    ours, theirs = np.empty(len(host), pair), np.empty(len(known_host), pair)
    ours["host"], ours["content"] = host, content
    theirs["host"], theirs["content"] = known_host, known_content
    return np.isin(ours, theirs)


def _total(counts: pa.Table) -> pa.Table:
    """COUNTS with one row per (host, paragraph), sorted."""
    summed = counts.group_by(["host", "paragraph"], use_threads=False).aggregate([("documents", "sum")])
    summed = summed.rename_columns(["host", "paragraph", "documents"]).cast(COUNTS)
    return summed.sort_by([("host", "ascending"), ("paragraph", "ascending")])
