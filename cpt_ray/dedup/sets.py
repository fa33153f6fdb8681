"""Sorted sets of 64-bit shingle hashes, and how many of them two documents share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.dedup.kernels import I64, U64, collect_all
from cpt_ray.dedup.shingles import StringBuffer, order_powers, scratch
from cpt_ray.dedup.unicode_words import tables


def shingle_sets(
    column: pa.Array | pa.ChunkedArray, counts: npt.NDArray[np.integer], *, ngram: int = 5, mode: int = 0
) -> tuple[U64, I64]:
    """(values uint64, lengths [rows] int64): the sorted set of every document's shingle hashes, one after the other.

    `counts` [rows] is the number of shingles with repeats, as `minhash.sign` counts them.
    """
    text = StringBuffer(column)
    entries, blob = tables()
    spare, units, hashes = scratch(ngram)
    powers = order_powers(ngram)
    largest = int(counts.max(initial=0))
    work = np.empty(largest + 1, np.uint64)
    heads = np.empty(2 * largest + 2, np.int64)
    values = np.empty(int(counts.sum()) + 1, np.uint64)
    lengths = np.zeros(text.rows, np.int64)
    at = collect_all(
        text.data, text.offsets, mode, powers, entries, blob, spare, units, hashes, work, heads, values, lengths
    )
    return values[:at], lengths
