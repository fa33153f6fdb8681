"""The licence that a text is, by its likeness to the texts that `identify` ships.

A text that merely resembles a licence is never guessed at: the value is then UNKNOWN.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

UNKNOWN = "unknown"
LIKENESS = 0.9
"""Dice coefficient of word pairs from which a text is the licence's: the measure of GitHub's licensee, its threshold
for a text with another name and year in it."""

_WORD = re.compile(r"[a-z0-9]+")
_COPYRIGHT = re.compile(r"(?im)^[^\w\n]*(?:copyright|\(c\)|©|all rights reserved).*$")


def text_licence(text: str) -> str | None:
    """The SPDX id of the licence whose text this is by at least LIKENESS, the most alike; None where none is."""
    pairs = _pairs(text)
    size = pairs.total()
    best = max(
        ((2 * (pairs & known).total() / (size + known.total() or 1), name) for name, known in _known()),
        default=(0.0, ""),
    )
    return best[1] if best[0] >= LIKENESS else None


def texts_licence(texts: Iterable[str]) -> str:
    """The licences of one project's licence files, all together where there are several; one that is not known makes
    the whole UNKNOWN, because nobody can say what it asks."""
    found = {text_licence(text) for text in texts}
    return " AND ".join(sorted(one or "" for one in found)) if found and None not in found else UNKNOWN


def _pairs(text: str) -> Counter[tuple[str, str]]:
    words = _WORD.findall(_COPYRIGHT.sub("", text).lower())
    return Counter(pairwise(words))


@cache
def _known() -> tuple[tuple[str, Counter[tuple[str, str]]], ...]:
    from identify.vendor.licenses import LICENSES

    return tuple((name, _pairs(text)) for name, text in LICENSES)
