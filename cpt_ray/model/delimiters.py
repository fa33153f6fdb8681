"""Delimiters by side, as in arXiv 2201.10005 section 2: x is wrapped in `[` `]`, y in `{` `}`.

They are put as token ids around ids that are already truncated. Joining strings instead would let byte-pair encoding
merge a bracket with the word beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpt_ray.errors import UserError
from cpt_ray.model.options import Side

MARKS: dict[Side, tuple[str, str]] = {"x": ("[", "]"), "y": ("{", "}")}
ADDED = 2
"""Tokens that `wrap` adds to a text."""


@dataclass(frozen=True)
class Delimiters:
    """Ids of the opening and the closing delimiter of each side."""

    x: tuple[int, int]
    y: tuple[int, int]

    @staticmethod
    def of(tokenizer: Any) -> Delimiters:
        """Look the four brackets up in a tokenizer of `transformers` or of `tokenizers`; UserError if one is missing."""
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        for mark in (mark for pair in MARKS.values() for mark in pair):
            if mark not in vocabulary:
                raise UserError(
                    f"the tokenizer has no token {mark!r}, which delimits a side of every pair",
                    where="tokenizer",
                    fix="use a byte-level tokenizer, or add the tokens '[', ']', '{' and '}' to its vocabulary",
                )
        ids = {side: (vocabulary[opening], vocabulary[closing]) for side, (opening, closing) in MARKS.items()}
        if len({*ids["x"], *ids["y"]}) != 4:
            raise UserError("two delimiters share one token id", where="tokenizer", fix="use another tokenizer")
        return Delimiters(**ids)

    @property
    def closing(self) -> tuple[int, int]:
        """The ids an embedding may be read at."""
        return self.x[1], self.y[1]

    def wrap(self, ids: Sequence[int] | np.ndarray, side: Side) -> np.ndarray:
        """int64 ids with the delimiters of `side` around them."""
        opening, closing = self.x if side == "x" else self.y
        wrapped = np.empty(len(ids) + ADDED, np.int64)
        wrapped[0], wrapped[1:-1], wrapped[-1] = opening, ids, closing
        return wrapped

    def to_dict(self) -> dict[str, list[int]]:
        return {"x": list(self.x), "y": list(self.y)}

    @staticmethod
    def from_dict(value: dict[str, list[int]]) -> Delimiters:
        return Delimiters(x=(value["x"][0], value["x"][1]), y=(value["y"][0], value["y"][1]))
