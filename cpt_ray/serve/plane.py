"""Vectors on a map: the two directions in which an index's vectors differ most (principal components)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpt_ray.evaluate.space import principal_axes
from cpt_ray.serve.indexes import Index

SAMPLE, SHOWN = 4096, 1500
"""Rows the directions are found from, and rows shown."""


@dataclass(frozen=True)
class Plane:
    """`axes` (D, 2) through `mean` (D,); `rows` (n,) of the index are shown at `points` (n, 2)."""

    mean: np.ndarray
    axes: np.ndarray
    rows: np.ndarray
    points: np.ndarray

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 2) float64 of vectors (n, D)."""
        placed: np.ndarray = (vectors.astype(np.float64) - self.mean) @ self.axes
        return placed


def plane_of(index: Index) -> Plane | None:
    """The map of an index, by rows spread over all of it; None where its kind keeps no vectors, or has fewer than two."""
    count = index.rows.num_rows
    sample = index.vectors_of(_spread(count, SAMPLE))
    if sample is None or count < 2 or sample.shape[1] < 2:
        return None
    mean, axes = principal_axes(sample)
    shown = _spread(count, SHOWN)
    vectors = np.asarray(index.vectors_of(shown), np.float64)
    return Plane(mean, axes, shown, (vectors - mean) @ axes)


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of the rows 0 .. count - 1, evenly."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(most, count), dtype=np.int64))
