"""Hard negatives mined with a model: near a query, but not its answer.

    score     every query against every document, by blocks
    window    ranks `first` to `last` (the very nearest are often unlabelled answers)
    margin    a candidate that scores nearly as high as the positive, or has its content, is taken for a false negative
    choose    `count` of what is left, spread evenly over the window, nearest first

A query with too few candidates left is dropped by name: every pair of a batch must have equally many.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.options import Options

BLOCK = 512


class MineOptions(Options):
    """Which neighbours become hard negatives."""

    count: int = Field(1, ge=1, description="hard negatives of each pair")
    first: int = Field(10, ge=0, description="first rank of the window, 0 is the nearest document")
    last: int = Field(100, ge=1, description="the window ends before this rank")
    margin: float = Field(0.95, gt=0, description="drop what scores more than this share of the positive's score")

    @model_validator(mode="after")
    def _window(self) -> MineOptions:
        if self.last - self.first < self.count:
            raise ValueError(f"the window of ranks {self.first} to {self.last} is narrower than count={self.count}")
        return self


def mine(pairs: pa.Table, x: np.ndarray, y: np.ndarray, options: MineOptions) -> tuple[pa.Table, Ledger]:
    """`pairs` with the columns `hard` (list<string>) and `hard_hash` (list<u64>), without those that found too few.

    x and y (n, D) float32 are the L2-normalised embeddings of the two sides, row by row; the documents that are searched
    are the y of all pairs. Ties go to the smaller y_hash, so that the order of the rows does not matter.
    """
    order = np.argsort(pairs["y_hash"].to_numpy(), kind="stable")
    hashes = pairs["y_hash"].to_numpy()[order]
    clusters = pairs["cluster"].to_numpy()[order]
    documents = y[order]
    distinct = np.concatenate([[True], hashes[1:] != hashes[:-1]])
    documents, hashes, clusters, at = documents[distinct], hashes[distinct], clusters[distinct], order[distinct]
    own_hash, own_cluster = pairs["y_hash"].to_numpy(), pairs["cluster"].to_numpy()
    chosen = np.full((len(x), options.count), -1, np.int64)
    for start in range(0, len(x), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(x)))
        scores = x[rows] @ documents.T
        positive = np.einsum("nd,nd->n", x[rows], y[rows])
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, options.first : options.last]
        near = np.take_along_axis(scores, nearest, axis=1)
        wrong = near <= options.margin * positive[:, None]
        wrong &= (hashes[nearest] != own_hash[rows, None]) & (clusters[nearest] != own_cluster[rows, None])
        for i, row in enumerate(rows):
            left = nearest[i][wrong[i]]
            if len(left) >= options.count:
                chosen[row] = at[left[np.linspace(0, len(left) - 1, options.count).round().astype(int)]]
    found = chosen[:, 0] >= 0
    kept = pairs.filter(pa.array(found))
    texts, content = pairs["y"].combine_chunks(), pairs["y_hash"].combine_chunks()
    flat = pa.array(chosen[found].ravel())
    offsets = pa.array(np.arange(int(found.sum()) + 1, dtype=np.int32) * options.count)
    for name, column in (("hard", texts), ("hard_hash", content)):
        if name in kept.column_names:
            kept = kept.drop_columns([name])
        kept = kept.append_column(name, pa.ListArray.from_arrays(offsets, column.take(flat)))
    return kept, Ledger.count("pairs", [None if one else "too_few_hard_negatives" for one in found])
