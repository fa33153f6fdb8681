"""The exact layer below documents: paragraphs that a host repeats on many of its pages (menus, footers, notices)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Sampler
from cpt_ray.dedup import minhash, shingles
from cpt_ray.dedup.kernels import U64
from cpt_ray.dedup.options import ParagraphOptions
from cpt_ray.words import count_words, text_hash

COUNTS = pa.schema(
    [pa.field("host", pa.string()), pa.field("paragraph", pa.uint64()), pa.field("documents", pa.int64())]
)
"""`documents` of the host that hold the paragraph; where `paragraph` is null, all documents of the host."""

CONTENT_HASH = "content_hash"


def count_paragraphs(table: pa.Table, separator: str, text_column: str = "text", host_column: str = "host") -> pa.Table:
    """COUNTS of a table of documents; a paragraph counts once per document."""
    split = _Paragraphs(table.column(text_column), separator)
    hosts = _hosts(table.column(host_column))
    worded = split.words > 0
    seen = pa.table(
        {
            "host": hosts.take(pa.array(split.document[worded])),
            "document": pa.array(split.document[worded]),
            "paragraph": pa.array(split.content[worded]),
        }
    )
    once = seen.group_by(["host", "document", "paragraph"], use_threads=False).aggregate([])
    ones = pa.array(np.ones(once.num_rows, np.int64))
    each = once.select(["host", "paragraph"]).append_column("documents", ones)
    return total(pa.concat_tables([each, host_pages(table, host_column)]))


def host_pages(table: pa.Table, host_column: str = "host") -> pa.Table:
    """COUNTS of the documents themselves, not added up."""
    hosts = _hosts(table.column(host_column))
    ones = pa.array(np.ones(len(hosts), np.int64))
    return pa.table([hosts, pa.nulls(len(hosts), pa.uint64()), ones], schema=COUNTS)


def total(counts: pa.Table) -> pa.Table:
    """COUNTS with one row per (host, paragraph), sorted."""
    summed = counts.group_by(["host", "paragraph"], use_threads=False).aggregate([("documents", "sum")])
    summed = summed.rename_columns(["host", "paragraph", "documents"]).cast(COUNTS)
    return summed.sort_by([("host", "ascending"), ("paragraph", "ascending")])


def repeated(counts: pa.Table, options: ParagraphOptions) -> pa.Table:
    """(host, paragraph) of the paragraphs that go, by all COUNTS of a corpus."""
    whole = pc.is_null(counts["paragraph"])
    pages, each = counts.filter(whole), counts.filter(pc.invert(whole))
    of_host = pages["documents"].take(pc.index_in(each["host"], value_set=pages["host"].combine_chunks()))
    return each.filter(pa.array(often(each["documents"], of_host, options))).drop_columns(["documents"])


def often(documents: pa.ChunkedArray, pages: pa.ChunkedArray, options: ParagraphOptions) -> np.ndarray:
    """[rows] bool: whether a paragraph on so many documents of a host, of so many that it has, goes."""
    least = np.maximum(options.min_documents or np.inf, options.min_share * np.asarray(pages))
    return np.asarray(documents) >= least


def drop_repeated(
    table: pa.Table, repeated: pa.Table, options: ParagraphOptions, text_column: str = "text", host_column: str = "host"
) -> tuple[pa.Table, Ledger]:
    """`table` with the paragraphs of `repeated` (host, paragraph) taken out of its texts; documents that were nothing
    else are dropped. Paragraphs without a word stay. A `content_hash` follows the text; ids are left as they are."""
    column = table.column(text_column)
    split = _Paragraphs(column, options.separator)
    hosts = _hosts(table.column(host_column)).dictionary_encode()
    known = pc.index_in(repeated["host"].combine_chunks(), value_set=hosts.dictionary)
    here = pc.is_valid(known)
    drop = _pairs_in(
        np.asarray(hosts.indices)[split.document],
        split.content,
        np.asarray(known.filter(here)),
        np.asarray(repeated["paragraph"].combine_chunks().filter(here)),
    )
    drop &= split.at_least(options.min_words, drop)
    keep = ~drop
    # Lists of what is left, joined again: the offsets count the kept paragraphs of every document.
    kept_before = np.r_[0, np.cumsum(keep)][split.offsets]
    lists = pa.LargeListArray.from_arrays(pa.array(kept_before, pa.int64()), split.texts.filter(pa.array(keep)))
    text = pc.binary_join(lists, pa.scalar(options.separator, pa.large_string())).cast(column.type)
    touched = np.bincount(split.document[drop], minlength=table.num_rows) > 0
    words_left = np.bincount(split.document[keep], weights=split.words[keep], minlength=table.num_rows)
    emptied = touched & (words_left == 0)
    cleaned = _with(table, text_column, text)
    if CONTENT_HASH in table.column_names:
        cleaned = _with(cleaned, CONTENT_HASH, _content_hash(table[CONTENT_HASH], text, touched))
    host_of, dropped = _hosts(table.column(host_column)), Sampler()
    for row in np.flatnonzero(emptied).tolist():
        host, page = host_of[row].as_py(), column[row].as_py()
        dropped.add("documents", "only_repeated_paragraphs", f"{host}\n{page}", host=host, text=page)
    gone = np.flatnonzero(drop)
    for at in gone[np.unique(split.content[gone], return_index=True)[1]].tolist():
        host, paragraph = host_of[split.document[at].item()].as_py(), split.texts[at].as_py()
        dropped.add("paragraphs", "repeated_within_host", paragraph, host=host, text=paragraph)
    cleaned = cleaned.filter(pa.array(~emptied))
    ledger = Ledger.of(
        "paragraphs", read=len(keep), kept=int(keep.sum()), dropped={"repeated_within_host": int(drop.sum())}
    ) + Ledger.of(
        "documents",
        read=table.num_rows,
        kept=cleaned.num_rows,
        dropped={"only_repeated_paragraphs": int(emptied.sum())},
    )
    return cleaned, ledger.showing(dropped)


class _Paragraphs:
    """The paragraphs of every document: texts, document [paragraphs] (number of the row), words and hash of each."""

    def __init__(self, column: pa.ChunkedArray, separator: str) -> None:
        text = pc.fill_null(column.cast(pa.large_string()), "").combine_chunks()
        lists = pc.split_pattern(text, separator)
        lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
        self.texts = lists.flatten()
        lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
        self.offsets = np.r_[0, np.cumsum(lengths)]
        self.document = np.repeat(np.arange(len(lengths)), lengths)
        # One permutation, not used: what is wanted is the content hash that comes with a signature.
        found = minhash.sign(self.texts, count=1)
        self.words = found.words.astype(np.int64)
        self.content: U64 = found.content[:, 0] ^ (found.content[:, 1] * np.uint64(shingles.ODD))

    def at_least(self, words: int, among: np.ndarray) -> np.ndarray:
        """[paragraphs] bool: those `among` them with so many words or more.

        The signature takes each character of a script without spaces for a word, which a heading is no longer than."""
        enough = among & (self.words >= words)
        rows = np.flatnonzero(enough)
        _, first, same = np.unique(self.content[rows], return_index=True, return_inverse=True)
        texts = self.texts.take(pa.array(rows[first])).to_pylist()
        enough[rows] = np.array([count_words(text) >= words for text in texts], bool)[same]
        return enough


def _pairs_in(host: np.ndarray, content: U64, known_host: np.ndarray, known_content: U64) -> np.ndarray:
    """[paragraphs] bool: whether (host, content) stands among the known pairs."""
    pair = np.dtype([("host", np.int64), ("content", np.uint64)])
    ours, theirs = np.empty(len(host), pair), np.empty(len(known_host), pair)
    ours["host"], ours["content"] = host, content
    theirs["host"], theirs["content"] = known_host, known_content
    return np.isin(ours, theirs)


def _hosts(column: pa.ChunkedArray) -> pa.Array:
    """Documents without a host are those of one more host."""
    return pc.fill_null(column.cast(pa.string()), "").combine_chunks()


def _with(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), column)


def _content_hash(before: pa.ChunkedArray, text: pa.ChunkedArray, touched: np.ndarray) -> pa.Array:
    """As the documents have it, made anew where the text changed."""
    values = before.to_pylist()
    for at in np.flatnonzero(touched).tolist():
        values[at] = text_hash(text[at].as_py())
    return pa.array(values, before.type)
