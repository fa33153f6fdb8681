"""Shingles straight from the Arrow string buffer: bytes in, 64-bit hashes out, never a Python string.

1. A document is cut into segments of at most 256 KiB at an ASCII separator: memory does not depend on its length.
2. A segment becomes *units*: 64-bit hashes of its normalised words (or of its characters). 64 bytes at a time are
   turned into a bit mask of word bytes; runs of ones are words. A word of ASCII is hashed from 8-byte loads with 0x20
   set in every byte, which is lower case for letters and changes no digit. A run with a byte above 0x7F is decoded
   instead, code point by code point, through the table of `unicode_words`.
3. `n` successive units become a shingle: sum(unit[i + j] * P[j]) mod 2^64, mixed. A document of fewer than n units
   has one shingle, of all its units; a document without any unit has none.

The 32-bit shingle hash that MinHash takes is the upper half of the 64-bit one; verification compares the 64-bit ones.
The scheme is called `SCHEME`: it changes whenever any hash changes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.dedup.kernels import I64, PADDING, SEGMENT, U8, U64
from cpt_ray.errors import UserError

SCHEME = "words64-1"

ODD = 0xD6E8FEB86659FD93
"""An odd number without pattern. P[j] of a shingle's sum is its power j + 1, so that the order of the words counts."""


def order_powers(ngram: int) -> U64:
    """[ngram] uint64: the factor of each unit inside a shingle."""
    return np.array([pow(ODD, j + 1, 1 << 64) for j in range(ngram)], np.uint64)


class StringBuffer:
    """The bytes of an Arrow string or binary array as numpy views: data [bytes] uint8, offsets [rows + 1] int64.

    Nulls are empty. Nothing is copied but offsets of 32 bits; the views keep the Arrow buffers alive.
    """

    def __init__(self, column: pa.Array | pa.ChunkedArray) -> None:
        if isinstance(column, pa.ChunkedArray):
            # Offsets of 32 bits end at 2 GiB, which several chunks together may exceed.
            column = _wide(column) if column.num_chunks > 1 else column
            array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        else:
            array = column
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        # A column of nulls alone, as of a file in which no document has text, may have no other type.
        if any(test(array.type) for test in (pa.types.is_string_view, pa.types.is_binary_view, pa.types.is_null)):
            array = array.cast(pa.large_binary())
        if not any(test(array.type) for test in _STRINGS):
            raise UserError(f"a column of {array.type} holds no text", fix="name a string or binary column")
        wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
        if array.null_count:
            array = pc.fill_null(array, pa.scalar(b"").cast(array.type))
        _, offsets, data = array.buffers()
        self.rows = len(array)
        self._keep = (array, offsets, data)
        kind: type[np.generic] = np.int64 if wide else np.int32
        if offsets is None or self.rows == 0:
            self.offsets: I64 = np.zeros(self.rows + 1, np.int64)
        else:
            found = np.frombuffer(offsets, kind, self.rows + 1, array.offset * np.dtype(kind).itemsize)
            self.offsets = found.astype(np.int64)
        self.data: U8 = _view(data) if data is not None and data.size else np.zeros(1, np.uint8)

    def lengths(self) -> I64:
        """[rows] int64: bytes of each document."""
        return np.diff(self.offsets)


def _wide(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.large_binary()) if any(test(kind) for test in _STRINGS) else column


_STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


class _Address:
    """A buffer as numpy's array interface, writable in name only: numba then compiles one kernel, not two."""

    def __init__(self, buffer: pa.Buffer) -> None:
        self.buffer = buffer
        self.__array_interface__ = {
            "shape": (buffer.size,),
            "typestr": "|u1",
            "data": (buffer.address, False),
            "version": 3,
        }


def _view(buffer: pa.Buffer) -> U8:
    return np.asarray(_Address(buffer))


def scratch(ngram: int) -> tuple[U8, U64, U64]:
    """(spare segment, units, shingle hashes): the buffers a kernel works in, allocated once per call."""
    capacity = SEGMENT + ngram + 64
    return np.empty(SEGMENT + PADDING + 64, np.uint8), np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
