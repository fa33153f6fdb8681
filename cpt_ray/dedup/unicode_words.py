"""What a word is: one lookup per code point, made from Python's Unicode database.

Every code point is one of four things to the shingler:

- SEPARATOR: ends a word (spaces, punctuation, controls, mathematical operators, U+FFFD, bytes that are no UTF-8);
- LETTER: part of a word (letters, digits, marks, connector punctuation), written in its normalised form;
- SOLO: a word by itself. Scripts written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar, Tibetan ...) get useful
  shingles this way, and so do emoji and other symbols;
- IGNORED: leaves no trace (combining diacritics, variation selectors, zero-width joiners, soft hyphens).

Unassigned and private-use code points are separators.

The normalised form of a code point is NFKC, case-folded, decomposed, without the combining diacritics of the blocks
below, recomposed: "É", "é" and "e" + U+0301 are all "e"; "ﬁ" is "fi"; full-width "Ａ" is "a"; kana keep their voicing.
Text is normalised code point by code point, so a decomposed Hangul syllable or kana is not equal to a composed one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cpt_ray.dedup.kernels import IGNORED, LETTER, SEPARATOR, SOLO, TABLE_END

DIACRITICS = (
    range(0x0300, 0x0370),
    range(0x1AB0, 0x1B00),
    range(0x1DC0, 0x1E00),
    range(0x20D0, 0x2100),
    range(0xFE20, 0xFE30),
)
WITHOUT_SPACES = (
    *(range(0x0E00, 0x0E80), range(0x0E80, 0x0F00), range(0x0F00, 0x1000)),  # Thai, Lao, Tibetan
    *(range(0x1000, 0x10A0), range(0x1780, 0x1800), range(0x1950, 0x19E0), range(0x1A20, 0x1AB0)),  # Myanmar, Khmer
    *(range(0x2E80, 0x2FE0), range(0x3040, 0x3130), range(0x3190, 0x31C0), range(0x31F0, 0x3200)),  # radicals, kana
    *(range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xA980, 0xA9E0), range(0xF900, 0xFB00)),  # Han, Javanese
    *(range(0x16FE0, 0x19000), range(0x1AFF0, 0x1B170)),  # Tangut, Khitan, kana supplements
)
HANGUL = 0xAC00
_UNCHANGED = (range(0x3400, 0x4DC0), range(0x4E00, 0x9FFD), range(0x17000, 0x187F8), range(HANGUL, 0xD7A4))
"""Big runs of ideographs and syllables that are their own normalised form: not looked up one by one."""


@lru_cache(maxsize=1 << 14)
def normalise(char: str) -> str:
    """The normalised form of one character; empty when it leaves no trace."""
    composed = unicodedata.normalize("NFKC", char).casefold()
    parts = unicodedata.normalize("NFD", composed)
    return unicodedata.normalize("NFC", "".join(c for c in parts if not _is_in(ord(c), DIACRITICS)))


@lru_cache(maxsize=1 << 14)
def kind(char: str) -> int:
    """SEPARATOR, LETTER, SOLO or IGNORED."""
    code, category = ord(char), unicodedata.category(char)
    if code >= TABLE_END:
        return SOLO if code < 0x40000 else IGNORED
    if category == "Cn":
        return SEPARATOR
    if category == "Cf" or 0xFE00 <= code <= 0xFE0F or _is_in(code, DIACRITICS):
        return IGNORED
    if category[0] in "LNM":
        return SOLO if _is_in(code, WITHOUT_SPACES) else LETTER
    if category == "Pc":
        return LETTER
    return SOLO if category == "So" and code != 0xFFFD else SEPARATOR


def words(text: str) -> list[str]:
    """Normalised words of `text`, slowly: the definition that the compiled kernel is tested against."""
    found: list[str] = []
    current: list[str] = []
    for char in text:
        what = kind(char)
        if what == IGNORED:
            continue
        if what == LETTER:
            current.append(normalise(char))
            continue
        if current:
            found.append("".join(current))
            current = []
        if what == SOLO:
            found.append(normalise(char))
    return [*found, "".join(current)] if current else found


@lru_cache(maxsize=1)
def tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """(entries [0x20000] uint32: offset << 8 | length << 2 | kind, blob [n] uint8: normalised UTF-8).

    Length 0 means that the code point is its own normalised form.
    """
    entries = np.zeros(TABLE_END, np.uint32)
    blob = bytearray()
    for code, what in _kinds():
        entry = what
        if what in (LETTER, SOLO):
            form = normalise(chr(code))
            if form != chr(code):
                data = form.encode()
                entry |= len(blob) << 8 | len(data) << 2
                blob += data
        entries[code] = entry
    for run in _UNCHANGED:
        entries[run.start : run.stop] = SOLO if run.start != HANGUL else LETTER
    return entries, np.frombuffer(bytes(blob), np.uint8).copy()


def _kinds() -> Iterator[tuple[int, int]]:
    skipped = {code for run in _UNCHANGED for code in run}
    for code in range(TABLE_END):
        if code not in skipped and unicodedata.category(chr(code)) != "Cn":
            yield code, kind(chr(code))


def _is_in(code: int, ranges: tuple[range, ...]) -> bool:
    return any(r.start <= code < r.stop for r in ranges)
