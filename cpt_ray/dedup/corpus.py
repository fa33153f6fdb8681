"""All documents of a run in the order of the survivor rule, and those of equal content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.artifacts import parquet
from cpt_ray.artifacts.columns import whole
from cpt_ray.dedup import bands, kernels, signatures, survivors
from cpt_ray.dedup.kernels import I64, U64
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """All documents in the order of the survivor rule; a document's number in it is its slot.

    doc_id [slots] large string; keeper [slots] int64: the best slot of equal content (its own for the first, and for a
    document without words); words [slots]; counts [slots]: shingles with repeats; node_slot [nodes]: the first of each
    content that has words; parts: the files of signatures, slot_of[part][row] the slots of their rows, -1 for an id
    seen before; repeated: the number of such rows; invalid: how many held bytes that are no UTF-8.
    """

    doc_id: pa.LargeStringArray
    keeper: I64
    words: I64
    counts: I64
    node_slot: I64
    parts: list[str]
    slot_of: list[I64]
    repeated: int
    invalid: int

    @property
    def rows(self) -> int:
        return len(self.doc_id) + self.repeated

    def node_of(self, chosen: I64 | None = None) -> I64:
        """[slots + 1] int64: the node of a slot, -1 for one that is no node (or not a chosen one) and at the end."""
        found = np.full(len(self.doc_id) + 1, -1, np.int64)
        nodes = np.arange(len(self.node_slot)) if chosen is None else chosen
        found[self.node_slot[nodes]] = nodes
        return found

    @staticmethod
    def load(names: Sequence[str], options: DedupOptions) -> Corpus:
        """Read the signatures' small columns, rank, find equal content, then cut the rest's signatures into bands."""
        tables = [parquet.read_table(name, columns_of(options)) for name in names]
        if not tables:
            raise UserError("there are no documents to deduplicate", fix="check the step before")
        sizes = [table.num_rows for table in tables]
        table = pa.concat_tables(tables)
        order = survivors.best_first(table, options)
        ids = whole(table.column("doc_id")).take(pa.array(order))
        first = _first_of_each(ids)
        order, ids = order[first], ids.filter(pa.array(first))
        slot_of_row = np.full(table.num_rows, -1, np.int64)
        slot_of_row[order] = np.arange(len(order))
        words = np.asarray(table["words"])[order].astype(np.int64)
        keeper = _first_equal(np.asarray(table["content_0"])[order], np.asarray(table["content_1"])[order], words)
        node_slot = np.flatnonzero((keeper == np.arange(len(keeper))) & (words > 0))
        slot_of = np.split(slot_of_row, np.cumsum(sizes)[:-1])
        invalid = int(np.count_nonzero(np.asarray(table["flags"]) & kernels.INVALID_UTF8))
        counts = np.asarray(table["shingle_count"])[order].astype(np.int64)
        repeated = table.num_rows - len(order)
        return Corpus(ids, keeper, words, counts, node_slot, list(names), slot_of, repeated, invalid)

    def keys(self, options: DedupOptions) -> U64:
        """[nodes, bands] uint64; one part's signatures are in memory at a time."""
        count, rows = bands.shape(options)
        node_of = self.node_of()
        keys = np.empty((len(self.node_slot), count), np.uint64)
        for name, slots in zip(self.parts, self.slot_of, strict=True):
            matrix = signatures.signature_matrix(parquet.read_table(name, ["signature"]).column("signature"))
            nodes = node_of[slots]
            keys[nodes[nodes >= 0]] = bands.band_keys(matrix[nodes >= 0], count, rows)
        return keys

    def samples(self, share: int = 0, shares: int = 1) -> tuple[U64, I64]:
        """(shingles, nodes): the samples of all nodes, of those shingles alone that fall into one of `shares` by hash."""
        node_of = self.node_of()
        found: list[tuple[U64, I64]] = [(np.zeros(0, np.uint64), np.zeros(0, np.int64))]
        for name, slots in zip(self.parts, self.slot_of, strict=True):
            shingles, rows = signatures.sampled(parquet.read_table(name, [signatures.SAMPLE]))
            nodes = node_of[slots[rows]]
            # The lowest bits are those that the sample was chosen by.
            ours = (nodes >= 0) & ((shingles >> np.uint64(32)) % np.uint64(shares) == share)
            found.append((shingles[ours], nodes[ours]))
        return np.concatenate([s for s, _ in found]), np.concatenate([n for _, n in found])


def columns_of(options: DedupOptions) -> list[str]:
    """The signatures' columns without the signature itself."""
    rule = [survivors.PREFIX + p.column for p in options.survivors]
    return ["doc_id", *dict.fromkeys(rule), "content_0", "content_1", "words", "shingle_count", "flags"]


def _first_of_each(ids: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """[rows] bool: False where the same id stands further up."""
    codes = np.asarray(ids.dictionary_encode().indices)
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return first


def _first_equal(a: U64, b: U64, words: I64) -> I64:
    """[slots] int64: the smallest slot of equal content; a document without words is equal to none."""
    keeper = np.arange(len(a), dtype=np.int64)
    chosen = np.flatnonzero(words > 0)
    order = chosen[np.lexsort((chosen, b[chosen], a[chosen]))]
    if len(order):
        new = np.r_[True, (a[order[1:]] != a[order[:-1]]) | (b[order[1:]] != b[order[:-1]])]
        keeper[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
    return keeper
