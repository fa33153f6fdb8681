"""Everything compiled, in one file: numba's cache on disk is renewed when this file changes, and by nothing else.

A constant that a kernel uses is therefore defined here too. `shingles`, `minhash`, `sets` and `bands` are the callers,
and say what the kernels compute.
"""

# numba infers the kernels' types by itself; to mypy an element of an array is no int.
# mypy: disable-error-code="assignment,arg-type,return-value,call-arg,var-annotated"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cpt_ray.compat.numba import compiled

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

SEPARATOR, LETTER, SOLO, IGNORED = 0, 1, 2, 3

TABLE_END = 0x20000
"""Planes 0 and 1 are in the table; planes 2 and 3 hold ideographs only, the rest nothing that is written."""

WORDS, CHARACTERS = 0, 1
SEGMENT = 1 << 18
PADDING = 80
"""Bytes that must be readable after a segment: the kernel loads 64 bytes at a time, and 16 from the start of a word."""

INVALID_UTF8 = 1
"""Bit of a document's flags: some of its bytes were no UTF-8 and counted as separators."""

BATCH = 4
"""Shingles permuted per pass over the permutations; the last batch is filled with copies, which change no minimum."""

_SEED = np.uint64(0x2D358DCCAA6C78A5)
_M1 = np.uint64(0x9E3779B97F4A7C15)
_M2 = np.uint64(0xBF58476D1CE4E5B9)
_M3 = np.uint64(0x94D049BB133111EB)
_LOWER = np.uint64(0x2020202020202020)
_HIGH = np.uint64(0x8080808080808080)
# Masks of the first and the second 8 bytes of a load that ends after n bytes: a look-up mispredicts nothing.
_FIRST = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(17)], np.uint64)
_SECOND = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(17)], np.uint64)


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


@compiled(inline="always")
def _mix(h: np.uint64, low: np.uint64, high: np.uint64) -> np.uint64:
    """Take 16 more bytes of a word into its hash."""
    x = (low ^ h) * _M1
    y = (high ^ _M3) * _M2
    z = x ^ (y >> np.uint64(32)) ^ (y << np.uint64(32))
    return z ^ (z >> np.uint64(29))


@compiled(inline="always")
def _finish(h: np.uint64, length: int) -> np.uint64:
    h = (h ^ np.uint64(length)) * _M3
    return h ^ (h >> np.uint64(32))


@compiled()
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


@compiled()
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


@compiled(inline="always")
def _word(data: U8, start: int, end: int) -> tuple[np.uint64, bool]:
    """(hash, whether a byte is above 0x7F) of the word data[start:end]."""
    length = end - start
    size = min(length, 16)
    low = (_load64(data, start) | _LOWER) & _FIRST[size]
    high = (_load64(data, start + 8) | _LOWER) & _SECOND[size]
    seen = low | high
    h = _mix(_SEED, low, high)
    at = start + 16
    while at < end:
        size = min(end - at, 16)
        low = (_load64(data, at) | _LOWER) & _FIRST[size]
        high = (_load64(data, at + 8) | _LOWER) & _SECOND[size]
        seen |= low | high
        h = _mix(h, low, high)
        at += 16
    return _finish(h, length), (seen & _HIGH) != np.uint64(0)


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
def combine(units: U64, count: int, powers: U64, out: U64) -> int:
    """Write the shingle hashes of units[:count] to `out`; returns their number, 0 when there are too few units."""
    n = powers.shape[0]
    shingles = count - n + 1
    if shingles <= 0:
        return 0
    # Power by power over all shingles, not shingle by shingle: every one of these loops is vectorised.
    for i in range(shingles):
        out[i] = units[i] * powers[0]
    for j in range(1, n):
        power = powers[j]
        for i in range(shingles):
            out[i] += units[i + j] * power
    for i in range(shingles):
        total = out[i]
        total ^= total >> np.uint64(32)
        total *= _M2
        out[i] = total ^ (total >> np.uint64(29))
    return shingles


@compiled()
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


@compiled()
def update_signature(hashes: U64, count: int, mixed: U32, a: U32, b: U32, signature: U32) -> None:
    """Take the upper halves of hashes[:count] into the signature."""
    for i in range(count):
        h = np.uint32(hashes[i] >> np.uint64(32))
        h ^= h >> np.uint32(16)
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h ^= h >> np.uint32(13)
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        mixed[i] = np.uint32(h ^ (h >> np.uint32(16)))
    filled = count
    while filled % BATCH != 0:
        mixed[filled] = mixed[count - 1]
        filled += 1
    permuted = a.shape[0]
    for i in range(0, filled, BATCH):
        h0, h1, h2, h3 = mixed[i], mixed[i + 1], mixed[i + 2], mixed[i + 3]
        for k in range(permuted):
            x0 = np.uint32(a[k] * h0 + b[k])
            x1 = np.uint32(a[k] * h1 + b[k])
            x2 = np.uint32(a[k] * h2 + b[k])
            x3 = np.uint32(a[k] * h3 + b[k])
            signature[k] = min(min(min(x0, x1), min(x2, x3)), signature[k])


@compiled()
def update_bins(hashes: U64, count: int, a: U32, b: U32, signature: U32) -> None:
    """One-permutation MinHash: a hash falls into one of the bins, which keeps its smallest (Li, Owen, Zhang 2012)."""
    bins = np.uint64(signature.shape[0])
    for i in range(count):
        h = np.uint32(hashes[i] >> np.uint64(32))
        h ^= h >> np.uint32(16)
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h ^= h >> np.uint32(13)
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * a[0] + b[0])
        # The bin is decided by the upper bits, so what is compared inside it are the lower ones, turned up.
        at = np.int64(np.uint64(h) * bins >> np.uint64(32))
        # 0xFFFFFFFF is kept for an empty bin.
        value = min(np.uint32(h * np.uint32(0x9E3779B1)), np.uint32(0xFFFFFFFE))
        signature[at] = min(signature[at], value)


@compiled()
def densify(signature: U32, filled: U32) -> None:
    """Give every empty bin the value of a filled one, chosen alike for all documents (Shrivastava 2017)."""
    bins = np.uint64(signature.shape[0])
    for i in range(signature.shape[0]):
        filled[i] = signature[i] != np.uint32(0xFFFFFFFF)
    for i in range(signature.shape[0]):
        tried = np.uint64(0)
        at = i
        while filled[at] == 0:
            tried += np.uint64(1)
            h = (np.uint64(i) * np.uint64(0x9E3779B97F4A7C15) + tried) * np.uint64(0xBF58476D1CE4E5B9)
            h ^= h >> np.uint64(32)
            at = np.int64((h * np.uint64(0x94D049BB133111EB) >> np.uint64(32)) * bins >> np.uint64(32))
        if at != i:
            signature[i] = signature[at]


@compiled()
def sign_all(
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
    one: bool,
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
                if one:
                    update_bins(hashes, made, a, b, signature)
                else:
                    update_signature(hashes, made, mixed, a, b, signature)
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
            if one:
                update_bins(hashes, made, a, b, signature)
            else:
                update_signature(hashes, made, mixed, a, b, signature)
            shingles = made
        if one and shingles > 0:
            densify(signature, mixed)
        counts[row] = shingles
        words[row] = position


@compiled()
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


@compiled()
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


@compiled()
def collect_all(
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


@compiled()
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


@compiled()
def key_all(signatures: npt.NDArray[np.uint32], bands: int, rows: int, out: npt.NDArray[np.uint64]) -> None:
    for i in range(signatures.shape[0]):
        for band in range(bands):
            h = np.uint64(band + 1) * np.uint64(0x9E3779B97F4A7C15)
            for j in range(band * rows, (band + 1) * rows):
                h = (h ^ np.uint64(signatures[i, j])) * np.uint64(0xD6E8FEB86659FD93)
                h ^= h >> np.uint64(32)
            out[i, band] = h
