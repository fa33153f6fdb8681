"""Exact search: every vector is looked at, block by block (nearest.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cpt_ray.nearest import top_k
from cpt_ray.serve.indexes import Index


@dataclass(frozen=True)
class ExactIndex(Index):
    """`vectors` (N, D) float16 or float32, L2-normalised, read from disk as they are needed."""

    vectors: np.ndarray

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        return self.vectors[rows]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return top_k(queries, self.vectors, k)
