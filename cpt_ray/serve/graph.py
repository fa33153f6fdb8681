"""A graph of neighbours over a memory-mapped matrix: what it finds is scored by the matrix itself, as exact search scores.

    Q queries   N vectors   D dimensions   k answers

A graph covers one part of an index and is built by one thread: threads that share a graph make another each time. In
int8 all sums are of whole numbers, so its bytes are the same on every machine too. Graphs are mapped from disk, as the
matrix is, so that an index may be larger than memory.

int8: all vectors by one factor, the largest of their values being 127; a query by its own. Either leaves the order as it is,
but for rounding, which the scores by the matrix undo among what was found. binary: the signs alone, by the number that
differ: an eighth of int8's room, and a search has to keep more in view (`breadth`) to find as many.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from usearch.index import Index as Graph

from cpt_ray.errors import UserError
from cpt_ray.nearest import check, rescored, top_k
from cpt_ray.serve.indexes import Index

GRAPH = "graph.usearch"
ADDED_AT_ONCE = 4096
ASKED = 256
"""Vectors whose neighbours are looked up to measure recall."""
NEAREST = 10
SHORT = {"int8": "i8", "float16": "f16", "float32": "f32", "binary": "b1"}


@dataclass(frozen=True)
class GraphIndex(Index):
    """`vectors` (N, D) of length 1 and their graph in `folder`, which are read from disk as they are needed."""

    vectors: np.ndarray
    folder: str
    breadth: int

    @cached_property
    def graph(self) -> Graph:
        """UserError where it cannot be read or does not hold all vectors: the others would never be found."""
        try:
            found = Graph.restore(os.path.join(self.folder, GRAPH), view=True)
        except ValueError:  # of a file that ends early
            found = None
        if found is None or len(found) != len(self.vectors):
            held = 0 if found is None else len(found)
            raise UserError(
                f"the graph holds {held:,} of {len(self.vectors):,} vectors",
                where=self.folder,
                fix="make the index again with `cpt-ray embed`",
            )
        return found

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        return self.vectors[rows]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As of Index; ties by row. UserError where the widths differ or a query is not finite."""
        k = min(k, len(self.vectors))
        check(queries, self.vectors.shape[1])
        graph, wanted = self.graph, min(max(self.breadth, k), len(self.vectors))
        values = next(name for name, short in SHORT.items() if short == graph.dtype.name.lower())
        asked = _narrow(queries, values, None)
        graph.expansion_search = max(self.breadth, k)  # type: ignore[misc]
        matches: Any = graph.search(asked, wanted, threads=len(os.sched_getaffinity(0)))
        keys = matches.keys.reshape(len(queries), -1)
        counts = np.atleast_1d(matches.counts) if len(queries) > 1 else [keys.shape[1]]
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for i, (row, count) in enumerate(zip(keys, counts, strict=True)):
            candidates = row[:count].astype(np.int64)
            if len(candidates) < k:  # vectors that nothing leads to, as where all are equal
                scores[i], rows[i] = (one[0] for one in top_k(queries[i : i + 1], self.vectors, k))
                continue
            exact = rescored(np.ascontiguousarray(queries[i], np.float32), self.vectors, candidates)
            best = np.lexsort((candidates, -exact))[:k]
            scores[i], rows[i] = exact[best], candidates[best]
        return scores, rows


def build(folder: str, vectors: np.ndarray, *, values: str, links: int, breadth: int) -> None:
    """Write the graph of `vectors` (N, D) into `folder`."""
    largest = max((float(np.abs(part).max()) for part in _parts(vectors)), default=1.0)
    metric = "hamming" if values == "binary" else "ip"
    graph = Graph(ndim=vectors.shape[1], metric=metric, dtype=SHORT[values], connectivity=links, expansion_add=breadth)
    at = 0
    for part in _parts(vectors):
        graph.add(np.arange(at, at + len(part)), _narrow(part, values, largest), threads=1)
        at += len(part)
    graph.save(os.path.join(folder, GRAPH))


def recall(folder: str, vectors: np.ndarray, breadth: int) -> dict[str, Any]:
    """The share of the true nearest that a search finds, for vectors spread over all rows; each one itself not counted."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(ASKED, len(vectors)), dtype=np.int64))
    queries, k = np.array(vectors[rows], np.float32), min(NEAREST + 1, len(vectors))
    index = GraphIndex(None, "", vectors, folder, breadth)  # type: ignore[arg-type]
    pairs = zip(top_k(queries, vectors, k)[1], index.search(queries, k)[1], rows, strict=True)
    shares = [
        len((set(true) & set(found)) - {row}) / len(others)
        for true, found, row in pairs
        if (others := set(true) - {row})
    ]
    return {f"recall_at_{NEAREST}": round(float(np.mean(shares)), 4) if shares else 1.0, "queries": len(rows)}


def _parts(vectors: np.ndarray) -> list[np.ndarray]:
    return [vectors[at : at + ADDED_AT_ONCE] for at in range(0, len(vectors), ADDED_AT_ONCE)]


def _narrow(vectors: np.ndarray, values: str, largest: float | None) -> np.ndarray:
    """As the graph takes them. int8: the value `largest` is 127, None: the largest of each row; binary: signs, in bytes."""
    wide = np.array(vectors, np.float32)
    if values == "binary":
        return np.packbits(wide > 0, axis=1)
    if values != "int8":
        return wide
    most = np.abs(wide).max(axis=1, keepdims=True) if largest is None else np.float32(largest)
    return np.rint(wide * (127 / np.maximum(most, np.finfo(np.float32).tiny))).astype(np.int8)
