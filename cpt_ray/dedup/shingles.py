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

# numba infers the kernels' types by itself; to mypy an element of an array is no int.
# mypy: disable-error-code="assignment,arg-type,return-value,call-arg,var-annotated"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from cpt_ray.dedup.unicode_words import IGNORED, LETTER, SOLO, TABLE_END
from cpt_ray.errors import UserError

SCHEME = "words64-1"

WORDS, CHARACTERS = 0, 1
SEGMENT = 1 << 18
PADDING = 80
"""Bytes that must be readable after a segment: the kernel loads 64 bytes at a time, and 16 from the start of a word."""

INVALID_UTF8 = 1
"""Bit of a document's flags: some of its bytes were no UTF-8 and counted as separators."""

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

_SEED = np.uint64(0x2D358DCCAA6C78A5)
_M1 = np.uint64(0x9E3779B97F4A7C15)
_M2 = np.uint64(0xBF58476D1CE4E5B9)
_M3 = np.uint64(0x94D049BB133111EB)
_LOWER = np.uint64(0x2020202020202020)
_HIGH = np.uint64(0x8080808080808080)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_ORDER = 0xD6E8FEB86659FD93
"""P[j] of the shingle's sum is this number to the power j + 1, so that the order of the words counts."""


def order_powers(ngram: int) -> U64:
    """[ngram] uint64: the factor of each unit inside a shingle."""
    return np.array([pow(_ORDER, j + 1, 1 << 64) for j in range(ngram)], np.uint64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, bits: ir.Type) -> Any:
    raw = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(raw, [index]), bits.as_pointer())


@intrinsic
def _load64(typing: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """The 8 bytes at array[index], little-endian, unaligned."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], ir.IntType(64))
        return builder.load(pointer, align=1)

    return types.uint64(array, types.int64), generate


@intrinsic
def _word_mask(typing: Any, array: Any, index: Any) -> tuple[Any, Callable[..., Any]]:
    """Bit i is set where byte array[index + i] is a letter, a digit, `_` or above 0x7F, for i < 64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), 64)

        def of(value: int) -> ir.Constant:
            return ir.Constant(vector, [value] * 64)

        block = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1], vector), align=1)
        letter = builder.icmp_unsigned("<", builder.sub(builder.or_(block, of(0x20)), of(0x61)), of(26))
        digit = builder.icmp_unsigned("<", builder.sub(block, of(0x30)), of(10))
        other = builder.or_(builder.icmp_unsigned("==", block, of(0x5F)), builder.icmp_unsigned(">=", block, of(0x80)))
        return builder.bitcast(builder.or_(builder.or_(letter, digit), other), ir.IntType(64))

    return types.uint64(array, types.int64), generate


@intrinsic
def _trailing_zeros(typing: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """The number of zero bits below the lowest one; `value` is never 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@njit(cache=True, nogil=True, inline="always")
def _mix(h: np.uint64, low: np.uint64, high: np.uint64) -> np.uint64:
    """Take 16 more bytes of a word into its hash."""
    x = (low ^ h) * _M1
    y = (high ^ _M3) * _M2
    z = x ^ (y >> np.uint64(32)) ^ (y << np.uint64(32))
    return z ^ (z >> np.uint64(29))


@njit(cache=True, nogil=True, inline="always")
def _finish(h: np.uint64, length: int) -> np.uint64:
    h = (h ^ np.uint64(length)) * _M3
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _low_bytes(n: int) -> np.uint64:
    """A mask of the n lowest bytes, 0 <= n <= 8."""
    if n >= 8:
        return _ONES
    return (np.uint64(1) << np.uint64(8 * n)) - np.uint64(1)


@njit(cache=True, nogil=True)
def _decode(data: U8, at: int, end: int) -> tuple[int, int]:
    """(code point, length) of the UTF-8 sequence at `at`; (-1, 1) where there is none (RFC 3629, section 4)."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, 1
    if lead < 0xC2 or lead > 0xF4:
        return -1, 1
    length = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    if at + length > end:
        return -1, 1
    code = lead & (0x7F >> length)
    for i in range(1, length):
        byte = np.int64(data[at + i])
        if byte & 0xC0 != 0x80:
            return -1, 1
        code = code << 6 | (byte & 0x3F)
    if (length == 3 and code < 0x800) or (length == 4 and code < 0x10000) or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return -1, 1
    return code, length


@njit(cache=True, nogil=True)
def _decoded_words(data: U8, start: int, end: int, entries: U32, blob: U8, out: U64, k: int) -> int:
    """Append the units of data[start:end], which holds no ASCII separator; returns the new count, negative - 1 if the
    bytes are not all UTF-8."""
    h, low, high, filled, length = _SEED, np.uint64(0), np.uint64(0), 0, 0
    bad = False
    at = start
    while at <= end:
        kind, offset, size, step, source = 0, 0, 0, 1, data
        if at < end:
            code, step = _decode(data, at, end)
            bad |= code < 0
            if code >= TABLE_END:
                kind = SOLO if code < 0x40000 else IGNORED
            elif code >= 0:
                entry = entries[code]
                kind = np.int64(entry & np.uint32(3))
                size = np.int64(entry >> np.uint32(2) & np.uint32(63))
                offset = np.int64(entry >> np.uint32(8))
                if size > 0:
                    source = blob
            if size == 0:
                offset, size = at, step
        if kind == IGNORED:
            at += step
            continue
        if kind != LETTER and length > 0:
            out[k] = _finish(_mix(h, low, high) if filled > 0 else h, length)
            k += 1
            h, low, high, filled, length = _SEED, np.uint64(0), np.uint64(0), 0, 0
        if kind in (LETTER, SOLO):
            for i in range(size):
                byte = np.uint64(source[offset + i])
                if byte < np.uint64(0x80):
                    byte |= np.uint64(0x20)
                if filled < 8:
                    low |= byte << np.uint64(8 * filled)
                else:
                    high |= byte << np.uint64(8 * (filled - 8))
                filled += 1
                length += 1
                if filled == 16:
                    h = _mix(h, low, high)
                    low, high, filled = np.uint64(0), np.uint64(0), 0
        if kind == SOLO:
            out[k] = _finish(_mix(h, low, high) if filled > 0 else h, length)
            k += 1
            h, low, high, filled, length = _SEED, np.uint64(0), np.uint64(0), 0, 0
        at += step
    return -k - 1 if bad else k


@njit(cache=True, nogil=True, inline="always")
def _word(data: U8, start: int, end: int) -> tuple[np.uint64, bool]:
    """(hash, whether a byte is above 0x7F) of the word data[start:end]."""
    length = end - start
    keep_low = _low_bytes(min(length, 8))
    keep_high = _low_bytes(min(max(length - 8, 0), 8))
    low = (_load64(data, start) | _LOWER) & keep_low
    high = (_load64(data, start + 8) | _LOWER) & keep_high
    seen = low | high
    h = _mix(_SEED, low, high)
    at = start + 16
    while at < end:
        left = end - at
        low = (_load64(data, at) | _LOWER) & _low_bytes(min(left, 8))
        high = (_load64(data, at + 8) | _LOWER) & _low_bytes(min(max(left - 8, 0), 8))
        seen |= low | high
        h = _mix(h, low, high)
        at += 16
    return _finish(h, length), (seen & _HIGH) != np.uint64(0)


@njit(cache=True, nogil=True)
def _words(data: U8, start: int, end: int, entries: U32, blob: U8, out: U64, k: int) -> tuple[int, bool]:
    """Append the words of data[start:end] to `out` from position k; (new count, whether all bytes are UTF-8).

    data must be readable up to end + PADDING.
    """
    valid = True
    carry = np.uint64(0)
    word_start = start
    block = start
    while block < end:
        mask = _word_mask(data, block)
        left = end - block
        if left < 64:
            mask &= (np.uint64(1) << np.uint64(left)) - np.uint64(1)
        edges = mask ^ (mask << np.uint64(1) | carry)
        inside = carry
        carry = mask >> np.uint64(63)
        while edges != np.uint64(0):
            at = block + _trailing_zeros(edges)
            edges &= edges - np.uint64(1)
            if inside == np.uint64(0):
                word_start = at
            else:
                h, high = _word(data, word_start, at)
                if high:
                    k = _decoded_words(data, word_start, at, entries, blob, out, k)
                    if k < 0:
                        valid = False
                        k = -k - 1
                else:
                    out[k] = h
                    k += 1
            inside ^= np.uint64(1)
        block += 64
    if carry != np.uint64(0):
        h, high = _word(data, word_start, end)
        if high:
            k = _decoded_words(data, word_start, end, entries, blob, out, k)
            if k < 0:
                valid = False
                k = -k - 1
        else:
            out[k] = h
            k += 1
    return k, valid


@njit(cache=True, nogil=True)
def _characters(
    data: U8, start: int, end: int, entries: U32, blob: U8, out: U64, k: int, space: bool, begun: bool
) -> tuple[int, bool, bool]:
    """Append one unit per character of the normalised text, its words joined by one space.

    `space` says that a separator came before, `begun` that a character did; returns (count, space, whether
    all bytes are UTF-8). A character that normalises to several ("ﬁ") is one unit. A unit is the hash of its bytes.
    """
    valid = True
    at = start
    blank = _finish(_mix(_SEED, np.uint64(0x20), np.uint64(0)), 1)
    while at < end:
        code, step = _decode(data, at, end)
        valid &= code >= 0
        kind, offset, size, source = 0, at, step, data
        if code >= TABLE_END:
            kind = SOLO if code < 0x40000 else IGNORED
        elif code >= 0:
            entry = entries[code]
            kind = np.int64(entry & np.uint32(3))
            if entry >> np.uint32(2) & np.uint32(63) != 0:
                size = np.int64(entry >> np.uint32(2) & np.uint32(63))
                offset = np.int64(entry >> np.uint32(8))
                source = blob
        at += step
        if kind == IGNORED:
            continue
        if kind != LETTER and kind != SOLO:
            space = True
            continue
        if space and begun:
            out[k] = blank
            k += 1
        space, begun = False, True
        h = _SEED
        for i in range(size):
            h = _mix(h, np.uint64(source[offset + i]), np.uint64(i))
        out[k] = _finish(h, size)
        k += 1
    return k, space, valid


@njit(cache=True, nogil=True)
def segment_end(data: U8, start: int, end: int) -> int:
    """Where the segment that starts at `start` ends: after the last ASCII separator, else between two characters."""
    if end - start <= SEGMENT:
        return end
    cut = start + SEGMENT
    at = cut
    while at > start + SEGMENT // 2:
        byte = data[at - 1]
        lower = byte | 0x20
        if byte < 0x80 and byte != 0x5F and not (0x30 <= byte <= 0x39) and not (0x61 <= lower <= 0x7A):
            return at
        at -= 1
    at = cut
    while at > cut - 4 and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@njit(cache=True, nogil=True)
def units_of(
    data: U8,
    start: int,
    end: int,
    mode: int,
    entries: U32,
    blob: U8,
    spare: U8,
    out: U64,
    k: int,
    space: bool,
    begun: bool,
) -> tuple[int, bool, bool]:
    """Append the units of one segment; (count, space, valid). One that ends too near the buffer's end is copied."""
    if end + PADDING > data.shape[0]:
        for i in range(start, end):
            spare[i - start] = data[i]
        data, start, end = spare, 0, end - start
    if mode == CHARACTERS:
        return _characters(data, start, end, entries, blob, out, k, space, begun)
    k, valid = _words(data, start, end, entries, blob, out, k)
    return k, space, valid


@njit(cache=True, nogil=True)
def combine(units: U64, count: int, powers: U64, out: U64) -> int:
    """Write the shingle hashes of units[:count] to `out`; returns their number, 0 when there are too few units."""
    n = powers.shape[0]
    shingles = count - n + 1
    if shingles <= 0:
        return 0
    for i in range(shingles):
        total = np.uint64(0)
        for j in range(n):
            total += units[i + j] * powers[j]
        total ^= total >> np.uint64(32)
        total *= _M2
        out[i] = total ^ (total >> np.uint64(29))
    return shingles


@njit(cache=True, nogil=True)
def content_sums(units: U64, first: int, count: int, position: int) -> tuple[np.uint64, np.uint64]:
    """The two sums over units[first:count], each mixed with its position, that make the content hash."""
    a, b = np.uint64(0), np.uint64(0)
    for i in range(first, count):
        x = units[i] + np.uint64(position + i - first) * _M1
        x ^= x >> np.uint64(30)
        x *= _M2
        x ^= x >> np.uint64(27)
        a += x
        x *= _M3
        b += x ^ (x >> np.uint64(31))
    return a, b


class StringBuffer:
    """The bytes of an Arrow string or binary array as numpy views: data [bytes] uint8, offsets [rows + 1] int64.

    Nulls are empty. Nothing is copied but offsets of 32 bits; the views keep the Arrow buffers alive.
    """

    def __init__(self, column: pa.Array | pa.ChunkedArray) -> None:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
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


def scratch(mode: int, ngram: int) -> tuple[U8, U64, U64]:
    """(spare segment, units, shingle hashes): the buffers a kernel works in, allocated once per call."""
    capacity = SEGMENT + ngram + 64
    return np.empty(SEGMENT + PADDING + 64, np.uint8), np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
