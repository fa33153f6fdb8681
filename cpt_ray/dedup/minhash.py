"""MinHash signatures of many documents in one compiled pass, bit-equal to datasketch 2.0's `affine32` scheme.

A 32-bit shingle hash is mixed once by MurmurHash3's finalizer, then permuted by a[k] * h + b[k] mod 2^32 with odd a[k];
a signature holds the minimum of every permutation. The same hashes and seed give the `hashvalues` of
`datasketch.MinHash(num_perm, seed, scheme="affine32")`. (datasketch, minhash.py; Broder 1997.)
"""

# numba infers the kernels' types by itself; to mypy an element of an array is no int.
# mypy: disable-error-code="assignment,arg-type,return-value,call-arg,var-annotated"
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from cpt_ray.dedup.shingles import (
    I64,
    INVALID_UTF8,
    SEGMENT,
    U8,
    U32,
    U64,
    StringBuffer,
    combine,
    content_sums,
    order_powers,
    scratch,
    segment_end,
    units_of,
)
from cpt_ray.dedup.unicode_words import tables

SIGNATURE_SCHEME = "affine32"
EMPTY = np.uint32(0xFFFFFFFF)
"""Every value of the signature of a document without shingles."""

_BATCH = 4
"""Shingles permuted per pass over the permutations; the last batch is filled with copies, which change no minimum."""


def permutations(count: int, seed: int) -> tuple[U32, U32]:
    """(a, b), each [count] uint32: drawn as datasketch draws them, from numpy's RandomState."""
    generator = np.random.RandomState(seed)
    a = generator.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = generator.randint(0, 1 << 32, count, dtype=np.uint32)
    return a, b


@njit(cache=True, nogil=True)
def _update(hashes: U64, count: int, mixed: U32, a: U32, b: U32, signature: U32) -> None:
    """Take the upper halves of hashes[:count] into the signature."""
    for i in range(count):
        h = np.uint32(hashes[i] >> np.uint64(32))
        h ^= h >> np.uint32(16)
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h ^= h >> np.uint32(13)
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        mixed[i] = np.uint32(h ^ (h >> np.uint32(16)))
    filled = count
    while filled % _BATCH != 0:
        mixed[filled] = mixed[count - 1]
        filled += 1
    permuted = a.shape[0]
    for i in range(0, filled, _BATCH):
        h0, h1, h2, h3 = mixed[i], mixed[i + 1], mixed[i + 2], mixed[i + 3]
        for k in range(permuted):
            x0 = np.uint32(a[k] * h0 + b[k])
            x1 = np.uint32(a[k] * h1 + b[k])
            x2 = np.uint32(a[k] * h2 + b[k])
            x3 = np.uint32(a[k] * h3 + b[k])
            signature[k] = min(min(min(x0, x1), min(x2, x3)), signature[k])


@njit(cache=True, nogil=True)
def _sign(
    data: U8,
    offsets: I64,
    mode: int,
    powers: U64,
    entries: U32,
    blob: U8,
    spare: U8,
    units: U64,
    hashes: U64,
    mixed: U32,
    a: U32,
    b: U32,
    signatures: npt.NDArray[np.uint32],
    counts: U32,
    words: U32,
    content: npt.NDArray[np.uint64],
    flags: U8,
) -> None:
    n = powers.shape[0]
    for row in range(offsets.shape[0] - 1):
        at, end = offsets[row], offsets[row + 1]
        signature = signatures[row]
        held, position, shingles = np.int64(0), np.int64(0), np.int64(0)
        space = False
        while at < end:
            stop = segment_end(data, at, end)
            count, space, valid = units_of(data, at, stop, mode, entries, blob, spare, units, held, space, position > 0)
            if not valid:
                flags[row] |= INVALID_UTF8
            low, high = content_sums(units, held, count, position)
            content[row, 0] += low
            content[row, 1] += high
            position += count - held
            made = combine(units, count, powers, hashes)
            if made > 0:
                _update(hashes, made, mixed, a, b, signature)
                shingles += made
                # The last n - 1 units open the next segment's first shingle.
                for i in range(n - 1):
                    units[i] = units[count - n + 1 + i]
                held = n - 1
            else:
                held = count
            at = stop
        if shingles == 0 and position > 0:
            made = combine(units, held, powers[:held], hashes)
            _update(hashes, made, mixed, a, b, signature)
            shingles = made
        counts[row] = shingles
        words[row] = position


@dataclass(frozen=True)
class Signatures:
    """values [rows, permutations] uint32; shingles, words [rows] uint32; content [rows, 2] uint64; flags [rows] uint8.

    `content` is a 128-bit hash of the sequence of units: equal for documents that are equal after normalisation.
    """

    values: npt.NDArray[np.uint32]
    shingles: U32
    words: U32
    content: npt.NDArray[np.uint64]
    flags: U8


def sign(
    column: pa.Array | pa.ChunkedArray, *, ngram: int = 5, mode: int = 0, count: int = 128, seed: int = 1
) -> Signatures:
    """Signatures of every document of a text column (nulls are empty); `mode` is shingles.WORDS or CHARACTERS."""
    text = StringBuffer(column)
    a, b = permutations(count, seed)
    entries, blob = tables()
    spare, units, hashes = scratch(mode, ngram)
    found = Signatures(
        np.full((text.rows, count), EMPTY, np.uint32),
        np.zeros(text.rows, np.uint32),
        np.zeros(text.rows, np.uint32),
        np.zeros((text.rows, 2), np.uint64),
        np.zeros(text.rows, np.uint8),
    )
    _sign(
        text.data,
        text.offsets,
        mode,
        order_powers(ngram),
        entries,
        blob,
        spare,
        units,
        hashes,
        np.empty(SEGMENT + ngram + 64, np.uint32),
        a,
        b,
        found.values,
        found.shingles,
        found.words,
        found.content,
        found.flags,
    )
    return found


def sign_hashes(hashes: U32, *, count: int = 128, seed: int = 1) -> U32:
    """[count] uint32: the signature of a set of 32-bit shingle hashes, whoever made them."""
    a, b = permutations(count, seed)
    signature = np.full(count, EMPTY, np.uint32)
    if len(hashes):
        wide = hashes.astype(np.uint64) << np.uint64(32)
        _update(wide, len(wide), np.empty(len(wide) + _BATCH, np.uint32), a, b, signature)
    return signature
