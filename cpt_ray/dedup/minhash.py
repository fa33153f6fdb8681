"""MinHash signatures of many documents in one compiled pass, bit-equal to datasketch 2.0's `affine32` scheme.

A 32-bit shingle hash is mixed once by MurmurHash3's finalizer, then permuted by a[k] * h + b[k] mod 2^32 with odd a[k];
a signature holds the minimum of every permutation. The same hashes and seed give the `hashvalues` of
`datasketch.MinHash(num_perm, seed, scheme="affine32")`. (datasketch, minhash.py; Broder 1997.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.dedup.kernels import BATCH, SEGMENT, U8, U32, sign_all, update_signature
from cpt_ray.dedup.shingles import StringBuffer, order_powers, scratch
from cpt_ray.dedup.unicode_words import tables

SIGNATURE_SCHEME = "affine32"
ONE_PERMUTATION = "one-permutation"
EMPTY = np.uint32(0xFFFFFFFF)
"""Every value of the signature of a document without shingles."""


def permutations(count: int, seed: int) -> tuple[U32, U32]:
    """(a, b), each [count] uint32: drawn as datasketch draws them, from numpy's RandomState."""
    generator = np.random.RandomState(seed)
    a = generator.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = generator.randint(0, 1 << 32, count, dtype=np.uint32)
    return a, b


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
    column: pa.Array | pa.ChunkedArray,
    *,
    ngram: int = 5,
    mode: int = 0,
    count: int = 128,
    seed: int = 1,
    one: bool = False,
) -> Signatures:
    """Signatures of every document of a text column (nulls are empty); `mode` is kernels.WORDS or CHARACTERS.

    `one` hashes every shingle once instead of `count` times. The estimate is as good for documents of many more shingles
    than `count`, and worse for shorter ones; the values are not datasketch's.
    """
    text = StringBuffer(column)
    a, b = permutations(count, seed)
    entries, blob = tables()
    spare, units, hashes = scratch(ngram)
    found = Signatures(
        np.full((text.rows, count), EMPTY, np.uint32),
        np.zeros(text.rows, np.uint32),
        np.zeros(text.rows, np.uint32),
        np.zeros((text.rows, 2), np.uint64),
        np.zeros(text.rows, np.uint8),
    )
    sign_all(
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
        one,
    )
    return found


def sign_hashes(hashes: U32, *, count: int = 128, seed: int = 1) -> U32:
    """[count] uint32: the signature of a set of 32-bit shingle hashes, whoever made them."""
    a, b = permutations(count, seed)
    signature = np.full(count, EMPTY, np.uint32)
    if len(hashes):
        wide = hashes.astype(np.uint64) << np.uint64(32)
        update_signature(wide, len(wide), np.empty(len(wide) + BATCH, np.uint32), a, b, signature)
    return signature
