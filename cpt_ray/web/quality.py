"""Simple quality rules, each a named reason, and one score.

The rules are those of Gopher (Rae et al. 2021, table A1) and C4 (Raffel et al. 2020), with bounds that fit
documentation, where identifiers make words long and lines short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import filterfalse

from cpt_ray.web.options import QualityOptions
from cpt_ray.words import CLOSERS, OTHER_STOPS, STOPS, count_words, split_scripts

_WORD = re.compile(r"\S+")
_ENDS = frozenset(STOPS.replace("…", "") + OTHER_STOPS + CLOSERS + ":：")
# Punctuation of scripts without spaces.
_WIDE = re.compile("[\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65“”‘’…—·]+")
_DOTS = re.compile("…+")  # Chinese writes two
_ELLIPSIS = ("...", "…")
_BULLETS = ("•", "-", "*", "‣", "·", "・")


@dataclass(frozen=True)
class Quality:
    """`reason` a rule the text breaks, None if it keeps them all; `score` between 0 and 1."""

    reason: str | None
    score: float


def quality(text: str, options: QualityOptions) -> Quality:
    """Judge a text. Pure; equal texts have equal scores.

    Scripts without spaces count by the words their characters make (`words.count_words`), and the length of words is
    looked at only where most are set apart by spaces.
    """
    spaced, unspaced = split_scripts(text)
    words = _WORD.findall(_WIDE.sub(" ", spaced) if unspaced else spaced)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    count = len(words) + unspaced
    if count < max(1, options.min_words):
        return Quality("too_short", 0.0)
    if count > options.max_words:
        return Quality("too_long", 0.0)
    mixed = list(filterfalse(str.isalpha, words))
    letters = len(words) - len(mixed) + sum(any(map(str.isalpha, word)) for word in mixed)
    alphabetic = (unspaced + letters) / count
    repeated = _repeated(lines)
    mean = sum(map(len, words)) / max(1, len(words))
    symbols = (text.count("#") + text.count("...") + len(_DOTS.findall(text))) / count
    score = round((_prose(lines, unspaced > 0) + alphabetic + (1 - repeated)) / 3, 4)
    broken = (
        ("word_length", unspaced < len(words) and not options.min_word_length <= mean <= options.max_word_length),
        ("symbols", symbols > options.max_symbols),
        ("not_words", alphabetic < options.min_alphabetic),
        ("bullets", sum(line.startswith(_BULLETS) for line in lines) / len(lines) > options.max_bullets),
        ("ellipses", sum(line.endswith(_ELLIPSIS) for line in lines) / len(lines) > options.max_ellipses),
        ("repeated_lines", repeated > options.max_repeated_lines),
    )
    return Quality(next((reason for reason, is_broken in broken if is_broken), None), score)


def _repeated(lines: list[str]) -> float:
    """Share of the characters that stand in a line seen before."""
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    return repeated / max(1, sum(map(len, lines)))


def _prose(lines: list[str], unspaced: bool) -> float:
    """Share of the characters in lines that read like sentences: eight words or more, with an end."""
    prose = sum(
        len(line)
        for line in lines
        if line[-1] in _ENDS and (line.count(" ") >= 7 or (unspaced and count_words(line) >= 8))
    )
    return prose / max(1, sum(map(len, lines)))
