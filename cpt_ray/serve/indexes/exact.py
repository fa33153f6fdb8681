"""Every vector is looked at: the answer is exact, and nothing is built beside the matrix (serve/exact.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cpt_ray.serve.indexes import Index, Kind, open_vectors

if TYPE_CHECKING:
    import pyarrow as pa


class Exact(Kind):
    """Exact search over a memory-mapped matrix."""

    kind: Literal["exact"] = "exact"

    def build(self, folder: str) -> None:
        """The matrix is all it takes."""

    def open(self, folder: str, rows: pa.Table, model: str) -> Index:
        from cpt_ray.serve.exact import ExactIndex

        return ExactIndex(rows, model, open_vectors(folder))
