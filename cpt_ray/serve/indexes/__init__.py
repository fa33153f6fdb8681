"""Kinds of index, a file each: how the vectors of a published index are searched. `cpt-ray embed` takes `index.kind`.

A kind is a class of options with `kind` (kinds.py) that derives from Kind; what it opens is an Index.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cpt_ray.errors import UserError
from cpt_ray.options import Options

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

VECTORS = "vectors.npy"


def open_vectors(folder: str) -> np.ndarray:
    """The matrix (N, D) float16 or float32 of an index, read from disk as it is needed."""
    import numpy as np

    found: np.ndarray = np.load(os.path.join(folder, VECTORS), mmap_mode="r", allow_pickle=False)
    return found


@dataclass(frozen=True)
class Index(ABC):
    """An opened index: `rows` N rows that describe its vectors; `model`: the digest of the model that made them
    (model.weights.weights_identity), empty where the index does not say."""

    rows: pa.Table
    model: str

    @abstractmethod
    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(Q, D) float32 -> scores (Q, k) float32 falling, rows (Q, k) int64; k is at most N."""

    def vectors_of(self, rows: np.ndarray) -> np.ndarray | None:
        """(n, D) the vectors of these rows, for a map; None where the kind keeps none as they were."""
        return None

    def check_model(self, digest: str, where: str) -> None:
        """UserError unless the model of this digest made the vectors: those of two models have nothing in common, however
        equal their width. `where` is what the model was named by."""
        if self.model != digest:
            made = f"by {self.model}" if self.model else "by an earlier version, which did not note its model"
            raise UserError(
                f"the index was made {made}, and this model is {digest}",
                where=where,
                fix="give the model that made the index, or make the index again with `cpt-ray embed`",
            )


class Kind(Options):
    """What a module of this folder gives: how a part of the vectors is made ready for searching, and is opened."""

    rows_per_part: int = Field(
        250_000, ge=1, description="vectors of a part of the index; parts are built side by side and searched as one"
    )

    @abstractmethod
    def build(self, folder: str) -> dict[str, Any] | None:
        """Add to `folder` what searching needs beside VECTORS, the matrix (N, D) float16 or float32 that lies there: those
        of one part. What it gives, such as a recall, is kept in the manifest as `measured`: means over all parts, sums of
        whole numbers."""

    @abstractmethod
    def open(self, folder: str, rows: pa.Table, model: str) -> Index:
        """What `build` has left in `folder`; `rows` and `model` as Index has them."""
