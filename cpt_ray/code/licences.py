"""The licence of a file: what its header declares (SPDX), else what is known of its distribution or repository.

A repository's is read from its licence files, by the likeness of their text to the texts that `identify` ships. A text
that merely resembles a licence is never guessed at: the value is then "unknown".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

from identify.vendor.licenses import LICENSES
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

UNKNOWN = "unknown"
HEADER_BYTES = 4_096
"""The specification wants the tag near the top; a tag further down belongs to a quoted text."""
LIKENESS = 0.9
"""Dice coefficient of word pairs from which a text is the licence's: the measure of GitHub's licensee, its threshold
for a text with another name and year in it."""

_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([^\r\n]*)")
_ENDS = re.compile(r"[\s.,;\"'`]*(?:\*/|-->|\*\)|#\}|%>)?[\s.,;\"'`]*$")
_FILE = re.compile(
    r"(?i)(?:(?:[^/]+\.dist-info/(?:licen[sc]es/)?|META-INF/))?"
    r"(?:(?:un)?licen[sc]e(?:[-_.][\w.-]+)?|copying(?:[-_.][\w.-]+)?|[\w-]+[-_.]licen[sc]e(?:\.(?:txt|md|rst))?)"
)
_WORD = re.compile(r"[a-z0-9]+")
_COPYRIGHT = re.compile(r"(?im)^\W*(?:copyright|\(c\)|©|all rights reserved).*$")


def header_licence(source: bytes) -> str | None:
    """The SPDX expression in the header of a file (SPDX 2.3, annex E; 3.0, annex B for lower-case operators).

    Several tags hold together (`AND`); a tag that is no expression makes it UNKNOWN; None where there is no tag.
    """
    found: list[str] = []
    for tag in _TAG.finditer(source, 0, HEADER_BYTES):
        text = _ENDS.sub("", tag[1].decode("utf-8", "replace"))
        if not text:
            continue
        try:
            expression = str(canonicalize_license_expression(text))
        except InvalidLicenseExpression:
            return UNKNOWN
        if expression not in found:
            found.append(expression)
    if len(found) > 1:
        return " AND ".join(f"({one})" if " OR " in one and one[0] != "(" else one for one in found)
    return found[0] if found else None


def file_licence(source: bytes, default: str | None) -> str:
    """The header's licence before the distribution's (`default`): a vendored file keeps its own."""
    return header_licence(source) or default or UNKNOWN


def is_licence_file(path: str) -> bool:
    """Whether a path at the top of a repository is named as its licence, or where a wheel or a jar has it."""
    return _FILE.fullmatch(path) is not None


def text_licence(text: str) -> str | None:
    """The SPDX id of the licence whose text this is by at least LIKENESS, the most alike; None where none is."""
    pairs = _pairs(text)
    size = pairs.total()
    best = max(
        ((2 * (pairs & known).total() / (size + known.total() or 1), name) for name, known in _known()),
        default=(0.0, ""),
    )
    return best[1] if best[0] >= LIKENESS else None


def repository_licence(texts: Iterable[str]) -> str:
    """The licences of a repository's licence files, all together where there are several; one that is not known makes
    the whole UNKNOWN, because nobody can say what it asks."""
    found = {text_licence(text) for text in texts}
    return " AND ".join(sorted(one or "" for one in found)) if found and None not in found else UNKNOWN


def _pairs(text: str) -> Counter[tuple[str, str]]:
    words = _WORD.findall(_COPYRIGHT.sub("", text).lower())
    return Counter(pairwise(words))


@cache
def _known() -> tuple[tuple[str, Counter[tuple[str, str]]], ...]:
    return tuple((name, _pairs(text)) for name, text in LICENSES)
