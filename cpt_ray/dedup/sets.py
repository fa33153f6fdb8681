"""Sorted sets of 64-bit shingle hashes, and how many of them two documents share."""

# numba infers the kernels' types by itself; to mypy an element of an array is no int.
# mypy: disable-error-code="assignment,arg-type,return-value,call-arg,var-annotated"
from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from cpt_ray.dedup.shingles import (
    I64,
    U8,
    U32,
    U64,
    StringBuffer,
    combine,
    order_powers,
    scratch,
    segment_end,
    units_of,
)
from cpt_ray.dedup.unicode_words import tables


@njit(cache=True, nogil=True)
def sort_unique(values: U64, count: int, spare: U64, heads: I64) -> int:
    """Sort values[:count] in place, drop repeats, return how many are left.

    Hashes are uniform, so one counting pass by their upper bits leaves next to nothing to the insertion sort.
    """
    if count <= 1:
        return count
    bits = 0
    while (1 << bits) < count:
        bits += 1
    shift = np.uint64(64 - bits)
    buckets = 1 << bits
    for i in range(buckets + 1):
        heads[i] = 0
    for i in range(count):
        heads[np.int64(values[i] >> shift) + 1] += 1
    for i in range(buckets):
        heads[i + 1] += heads[i]
    for i in range(count):
        bucket = np.int64(values[i] >> shift)
        spare[heads[bucket]] = values[i]
        heads[bucket] += 1
    for i in range(1, count):
        value = spare[i]
        j = i - 1
        while j >= 0 and spare[j] > value:
            spare[j + 1] = spare[j]
            j -= 1
        spare[j + 1] = value
    kept = 0
    for i in range(count):
        if i == 0 or spare[i] != spare[i - 1]:
            values[kept] = spare[i]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def _collect(
    data: U8,
    start: int,
    end: int,
    mode: int,
    powers: U64,
    entries: U32,
    blob: U8,
    spare: U8,
    units: U64,
    hashes: U64,
    out: U64,
) -> int:
    """Write all shingle hashes of one document to `out`, in order and with repeats; their number."""
    n = powers.shape[0]
    at, held, made, begun, space = start, np.int64(0), np.int64(0), False, False
    while at < end:
        stop = segment_end(data, at, end)
        count, space, _ = units_of(data, at, stop, mode, entries, blob, spare, units, held, space, begun)
        begun |= count > 0
        shingles = combine(units, count, powers, hashes)
        for i in range(shingles):
            out[made + i] = hashes[i]
        made += shingles
        if shingles > 0:
            for i in range(n - 1):
                units[i] = units[count - n + 1 + i]
            held = n - 1
        else:
            held = count
        at = stop
    if made == 0 and begun:
        made = combine(units, held, powers[:held], out)
    return made


def shingle_sets(
    column: pa.Array | pa.ChunkedArray, counts: npt.NDArray[np.integer], *, ngram: int = 5, mode: int = 0
) -> tuple[U64, I64]:
    """(values uint64, lengths [rows] int64): the sorted set of every document's shingle hashes, one after the other.

    `counts` [rows] is the number of shingles with repeats, as `minhash.sign` counts them.
    """
    text = StringBuffer(column)
    entries, blob = tables()
    spare, units, hashes = scratch(mode, ngram)
    powers = order_powers(ngram)
    largest = int(counts.max(initial=0))
    work = np.empty(largest + 1, np.uint64)
    heads = np.empty(2 * largest + 2, np.int64)
    values = np.empty(int(counts.sum()) + 1, np.uint64)
    lengths = np.zeros(text.rows, np.int64)
    at = _collect_all(
        text.data, text.offsets, mode, powers, entries, blob, spare, units, hashes, work, heads, values, lengths
    )
    return values[:at], lengths


@njit(cache=True, nogil=True)
def _collect_all(
    data: U8,
    offsets: I64,
    mode: int,
    powers: U64,
    entries: U32,
    blob: U8,
    spare: U8,
    units: U64,
    hashes: U64,
    work: U64,
    heads: I64,
    values: U64,
    lengths: I64,
) -> int:
    at = np.int64(0)
    for row in range(offsets.shape[0] - 1):
        made = _collect(
            data,
            offsets[row],
            offsets[row + 1],
            mode,
            powers,
            entries,
            blob,
            spare,
            units,
            hashes,
            values[at:],
        )
        kept = sort_unique(values[at:], made, work, heads)
        lengths[row] = kept
        at += kept
    return at


@njit(cache=True, nogil=True)
def intersections(values: U64, starts: I64, lengths: I64, left: I64, right: I64, out: I64) -> None:
    """out[i] = |set left[i] & set right[i]|; set j is values[starts[j] : starts[j] + lengths[j]], sorted."""
    for pair in range(left.shape[0]):
        i, j = starts[left[pair]], starts[right[pair]]
        i_end, j_end = i + lengths[left[pair]], j + lengths[right[pair]]
        shared = 0
        while i < i_end and j < j_end:
            a, b = values[i], values[j]
            shared += a == b
            i += a <= b
            j += b <= a
        out[pair] = shared
