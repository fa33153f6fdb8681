"""What is compiled of reading pages, in one file: numba's cache on disk is renewed when it changes, and by nothing else.

`content` is the caller, and says what it is for.
"""

# numba infers the kernels' types by itself; to mypy an element of an array is no int.
# mypy: disable-error-code="assignment,arg-type,return-value,call-arg,var-annotated"
from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cpt_ray.compat.numba import compiled

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

_LESS, _MORE, _SLASH, _DASH, _EQUAL, _SINGLE, _DOUBLE, _BLANK = b"<>/-='\" "


def names_of(names: list[str]) -> U64:
    """The hashes of lower-case names of elements, as `trapped` looks for them."""
    hashes = []
    for name in names:
        hashed = 0
        for byte in name.encode():
            hashed = (hashed * 31 + byte) % 2**64
        hashes.append(hashed)
    return np.array(sorted(hashes), np.uint64)


@compiled()
def trapped(html: U8, flat: U64, deepest: int, long_tag: int, most_squares: int) -> int:
    """1 when elements but the `flat` ones nest deeper than `deepest`, 2 when the squared numbers of attributes of tags
    longer than `long_tag` add to more than `most_squares`, 0 for neither; of UTF-8, which need not be sound markup.

    A tag ends at the first `>` outside quotes, or before a quote that nothing closes.
    """
    depth = squares = at = 0
    while at < len(html):
        if html[at] != _LESS:
            at += 1
            continue
        at += 1
        closing = at < len(html) and html[at] == _SLASH
        name = at + closing
        if name >= len(html) or not 97 <= html[name] | 0x20 <= 122:
            continue
        at, hashed = name, np.uint64(0)
        while at < len(html) and (97 <= html[at] | 0x20 <= 122 or 48 <= html[at] <= 57 or html[at] == _DASH):
            hashed = hashed * np.uint64(31) + np.uint64(html[at] | 0x20)
            at += 1
        start, pieces, between = at, 1, False
        while at < len(html) and html[at] != _MORE:
            byte = html[at]
            if byte in (_SINGLE, _DOUBLE):
                end = at + 1
                while end < len(html) and html[end] != byte:
                    end += 1
                if end == len(html):
                    break
                at = end + 1
                continue
            separates = byte in (_SLASH, _EQUAL, _BLANK) or 9 <= byte <= 13
            pieces += separates and not between
            between = separates
            at += 1
        if at - start > long_tag:
            squares += pieces * pieces
            if squares > most_squares:
                return 2
        if at > start and html[at - 1] == _SLASH:
            continue
        place = np.searchsorted(flat, hashed)
        if place < len(flat) and flat[place] == hashed:
            continue
        depth += -(depth > 0) if closing else 1
        if depth > deepest:
            return 1
    return 0
