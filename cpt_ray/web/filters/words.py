"""Documents with too many terms of a list: the bad words of C4 (Raffel et al. 2020), or any list of that form."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Set
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cpt_ray.errors import UserError
from cpt_ray.web.filters import Document, Filter, state


class Words(Filter):
    """Drop a document, as `words`, when terms of a list make up too much of its text.

    A term is one word or several in a row, compared as whole words and without regard to case; in a script without
    spaces a character is a word. Where terms overlap, the longest that begins first counts."""

    kind: Literal["words"] = "words"
    file: str = Field(
        description="UTF-8 text, a term to a line, empty lines apart; on a cluster every machine has it at this path"
    )
    min_count: int | None = Field(default=None, ge=1, description="dropped with as many terms, or more; null: no bound")
    min_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="dropped when this share of the words is in terms, or more; null: no bound",
    )

    @model_validator(mode="after")
    def _bounded(self) -> Words:
        if self.min_count is None and self.min_share is None:
            raise ValueError("give min_count, min_share or both")
        return self

    def files(self) -> list[Path]:
        return [Path(self.file)]

    def reason(self, document: Document) -> str | None:
        words = _words(document.text)
        count, covered = _found(words, _terms(self.file, *state(self.file)))
        many = self.min_count is not None and count >= self.min_count
        dense = self.min_share is not None and bool(words) and covered >= self.min_share * len(words)
        return "words" if many or dense else None


Terms = Mapping[str, Mapping[int, Set[tuple[str, ...]]]]
"""By first word, and by number of words from the longest."""


def _found(words: list[str], terms: Terms) -> tuple[int, int]:
    """How many terms stand in a text, and how many of its words are in them."""
    count = covered = position = 0
    while position < len(words):
        length = 1
        for size, several in terms.get(words[position], {}).items():
            if tuple(words[position : position + size]) in several:
                count, covered, length = count + 1, covered + size, size
                break
        position += length
    return count, covered


@lru_cache(maxsize=8)
def _terms(file: str, changed: int, size: int) -> Terms:
    """The terms of a file; `changed` and `size` tell its states apart."""
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError("a list of words is not UTF-8", where=file, fix="convert it, as with iconv") from None
    terms: dict[str, dict[int, set[tuple[str, ...]]]] = {}
    for term in sorted(filter(None, (tuple(_words(line)) for line in lines)), key=len, reverse=True):
        terms.setdefault(term[0], {}).setdefault(len(term), set()).add(term)
    if not terms:
        raise UserError("a list of words has no term", where=file, fix="one term a line")
    return terms


def _words(text: str) -> list[str]:
    from cpt_ray.words import words  # options import the filters, and must not wait for it

    return words(text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold())
