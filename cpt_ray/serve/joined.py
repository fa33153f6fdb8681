"""Indexes searched as one: those of the parts of an artifact, or of several artifacts of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from cpt_ray.errors import UserError
from cpt_ray.nearest import best_of
from cpt_ray.serve.indexes import Index


def join(indexes: Sequence[Index]) -> Index:
    """One index with the rows of all, one after the other; columns that one lacks are null there. UserError for vectors
    of different models."""
    first, *others = indexes
    for other in others:
        if other.model != first.model:
            raise UserError(
                f"the vectors are of different models, {first.model} and {other.model}",
                fix="make the indexes again with one model: `cpt-ray embed`",
            )
    if not others:
        return first
    rows = pa.concat_tables([index.rows for index in indexes], promote_options="default")
    return Joined(rows, first.model, tuple(indexes))


@dataclass(frozen=True)
class Joined(Index):
    """The rows of `parts`, numbered through."""

    parts: tuple[Index, ...]

    @cached_property
    def starts(self) -> np.ndarray:
        """The number of the first row of each part, and how many rows there are."""
        return np.cumsum([0, *(part.rows.num_rows for part in self.parts)])

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As of Index: the best of what the parts find, by falling score, then by row."""
        found = (part.search(queries, min(k, part.rows.num_rows)) for part in self.parts)
        return best_of(found, self.starts, len(queries), k)

    def vectors_of(self, rows: np.ndarray) -> np.ndarray | None:
        part = np.searchsorted(self.starts, rows, side="right") - 1
        found: np.ndarray | None = None
        for number in np.unique(part):
            mine = part == number
            vectors = self.parts[number].vectors_of(rows[mine] - self.starts[number])
            if vectors is None:
                return None
            found = np.empty((len(rows), vectors.shape[1]), vectors.dtype) if found is None else found
            found[mine] = vectors
        return found
