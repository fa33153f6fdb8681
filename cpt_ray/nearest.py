"""The vectors nearest to others, exactly: a matrix, which may be mapped from disk, multiplied tile by tile.

    Q queries   N vectors   D dimensions   k answers

1. A tile of the matrix (rows, D) is multiplied with a block of queries in float32: (Q, rows) scores.
2. A row stays in the running for a query unless its score is below the present k-th best by more than float32 can
   err: two scores of vectors of length 1 are each off by at most D * 2^-24.
3. What is left is scored again in float64, row by row, so that equal vectors have equal scores wherever they stand in
   a tile. Order: by falling score, then by row. So the answer is the exact one, whatever the tiles and the number of
   threads.

A pass over all vectors takes time by their number: beyond some hundred thousand see serve/graph.py. Searching an index
and mining hard negatives both look here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from cpt_ray.errors import UserError

QUERIES_AT_ONCE = 256
TILE_SCORES, TILE_BYTES = 1 << 22, 32 << 20
"""Scores of one tile, and bytes of its vectors in float32 where they have to be copied to become that."""
RESCORED_AT_ONCE = 1 << 14
MANY = 1 << 14
"""Rows beyond k in the running for a query before they are cut to its exact k best: a collapsed model ties all."""
LANES = 64
"""Scores of one block, of which first only the maximum is looked at."""


def top_k(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of `vectors` (N, D) nearest to each of `queries` (Q, D), both L2-normalised: scores (Q, k) float32 and
    rows (Q, k) int64, ties by row. Raises UserError when the widths differ or a query is not finite."""
    check(queries, vectors.shape[1])
    k = min(k, len(vectors))
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)

    # One block after another: a product has all cores, and another block's work beside it makes both slower.
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        block = np.ascontiguousarray(queries[start : start + QUERIES_AT_ONCE], np.float32)
        for i, candidates in enumerate(_in_the_running(block, vectors, k)):
            exact = rescored(block[i], vectors, candidates)
            best = np.lexsort((candidates, -exact))[:k]
            scores[start + i], rows[start + i] = exact[best], candidates[best]
    return scores, rows


def check(queries: np.ndarray, dimension: int) -> None:
    """UserError unless `queries` (Q, D) fit vectors of that dimension, and are finite."""
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(
            f"queries {queries.shape} do not fit vectors of dimension {dimension}",
            fix="search with the model that made the index",
        )
    if not np.isfinite(queries).all():
        raise UserError("a query's vector is not finite", fix="look for NaN in the model's weights")


def best_of(
    found: Iterable[tuple[np.ndarray, np.ndarray]], starts: Iterable[int], queries: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `top_k` would find in all parts together, from what was found in each: scores and rows (Q, n) with n up to k.
    Rows are numbered through, those of a part from its start on. The parts are taken one at a time."""
    scores, rows = np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    for (more, at), start in zip(found, starts, strict=False):
        scores, rows = np.concatenate([scores, more], axis=1), np.concatenate([rows, at + start], axis=1)
        best = np.lexsort((rows, -scores), axis=1)[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return scores, rows


def _in_the_running(queries: np.ndarray, vectors: np.ndarray, k: int) -> list[np.ndarray]:
    """For each query, ascending, every row whose float32 score is not surely below the k-th best."""
    from cpt_ray.compat.torch import product_of_arrays

    margin = np.float32(2 * vectors.shape[1] * 2.0**-24)
    count = len(queries)
    owner, row, score = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    floor = np.full(count, -np.inf, np.float32)  # the k-th best score so far, less the margin
    height = max(1, TILE_SCORES // count)
    wide = None
    if vectors.dtype != np.float32:
        height = max(1, min(height, TILE_BYTES // (4 * vectors.shape[1])))
        wide = np.empty((min(height, len(vectors)), vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), height):
        part = vectors[start : start + height]
        tile = product_of_arrays(queries, part if wide is None else _widen(part, wide))
        whole = tile.shape[1] // LANES * LANES
        for offset, lanes, part in ((0, LANES, tile[:, :whole]), (whole, 1, tile[:, whole:])):
            if part.shape[1]:
                fresh_owner, fresh_row, fresh_score = _above(part, lanes, floor, k, margin)
                owner = np.concatenate([owner, fresh_owner])
                row = np.concatenate([row, fresh_row + start + offset])
                score = np.concatenate([score, fresh_score])
        order = np.lexsort((-score, owner))
        owner, row, score = owner[order], row[order], score[order]
        first = np.searchsorted(owner, np.arange(count + 1))
        enough = np.flatnonzero(np.diff(first) >= k)
        floor[enough] = np.maximum(floor[enough], score[first[enough] + k - 1] - margin)
        stays = score >= floor[owner]
        for i in np.flatnonzero(np.bincount(owner[stays], minlength=count) > MANY + k):
            own = np.flatnonzero(stays & (owner == i))
            ordered = own[np.argsort(row[own], kind="stable")]
            best = np.argsort(-rescored(queries[i], vectors, row[ordered]), kind="stable")[:k]
            stays[own] = False
            stays[ordered[best]] = True
        owner, row, score = owner[stays], row[stays], score[stays]
    first = np.searchsorted(owner, np.arange(count + 1))
    return [np.sort(row[a:b]) for a, b in itertools.pairwise(first)]


def _above(
    tile: np.ndarray, lanes: int, floor: np.ndarray, k: int, margin: np.float32
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, column, score) of the entries of `tile` (Q, lanes * B) that may be among their query's k best.

    Columns b, b + B, b + 2B ... form a block. One pass takes each block's maximum; the k-th largest maximum of a
    query is a bound from below on its k-th best score, so only blocks that reach it are looked into.
    """
    import torch  # by the threads that multiplied: beside numpy's, which wait busily, any others take ten times as long

    blocks = tile.reshape(len(tile), lanes, -1)
    highest = torch.from_numpy(blocks).amax(1).numpy()  # (Q, B)
    bound = floor
    if highest.shape[1] >= k:
        bound = np.maximum(floor, np.partition(highest, -k, axis=1)[:, -k] - margin)
    query, block = np.nonzero(highest >= bound[:, None])
    inside = blocks[query, :, block]  # (blocks reached, lanes)
    reached, lane = np.nonzero(inside >= bound[query, None])
    return query[reached], lane * highest.shape[1] + block[reached], inside[reached, lane]


def _widen(vectors: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """(n, D) float32 copy in the memory of `wide`."""
    import torch  # converts half precision several times faster than numpy

    there = wide[: len(vectors)]
    torch.from_numpy(there).copy_(torch.from_numpy(vectors))
    return there


def rescored(query: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n,) float32 scores summed in float64, the same for equal vectors."""
    exact = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), RESCORED_AT_ONCE):
        part = rows[start : start + RESCORED_AT_ONCE]
        exact[start : start + len(part)] = np.einsum(
            "nd,d->n", vectors[part].astype(np.float64), query.astype(np.float64)
        )
    return exact
