"""Hard negatives mined with a model: near a query, but not its answer.

    score     every query against every document, by blocks
    window    ranks `first` to `last` (the very nearest are often unlabelled answers)
    drop      false negatives: a known answer to an equal x, equal content or the same duplicate cluster as the
              positive, or by margin what scores nearly as high as it
    choose    `count` of what is left, spread evenly over the window, nearest first

A query with too few candidates left is dropped by name: every pair of a batch must have equally many. Only training pairs
are mined, among their own documents; what is held out stays as it is, and is no one's negative.

`consistent` is the filter of round trips (Dai et al. 2022, "Promptagator", section 3.2): a pair whose answer the model does
not find among the nearest is dropped as `inconsistent`, because as often as not its x says nothing of its y.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts.columns import whole
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import read_manifest, read_table
from cpt_ray.errors import UserError
from cpt_ray.pairs.make import publish_pairs
from cpt_ray.pairs.splits import TRAIN, read_side
from cpt_ray.train.finetune import HARD
from cpt_ray.train.options import MineOptions

BLOCK = 512

NEGATIVES = Stage("hard_pairs", version=1, unit="pairs", reads=("pair_id", "x", "y", "y_hash", "cluster"))


def make_hard_pairs(path: str, *, pairs: str, x: str, y: str, options: MineOptions) -> Manifest:
    """Publish the pairs of the artifact `pairs` with mined hard negatives at `path`.

    `x` and `y` are artifacts with the vectors of the two sides (columns `key`: pair_id, `vector`).
    """
    inputs = {"pairs": read_manifest(pairs), "x": read_manifest(x), "y": read_manifest(y)}
    with NEGATIVES.build(path, params=options, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        table, training = read_table(pairs), read_side(pairs, TRAIN)
        heldout = table.filter(pc.not_equal(table["split"], TRAIN))
        mined, ledger = mine(training, _vectors(x, training), _vectors(y, training), options)
        nothing = pa.array([[]] * heldout.num_rows, pa.list_(pa.null()))
        found = pa.concat_tables([mined, _with_hard(heldout, nothing, nothing)]).sort_by("pair_id")
        ledger += Ledger.of("pairs", read=heldout.num_rows, kept=heldout.num_rows)
        return publish_pairs(work, found, ledger)


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
    own_query, own_cluster = pairs["x_hash"].to_numpy(), pairs["cluster"].to_numpy()
    answers = np.unique(_both(own_query, pairs["y_hash"].to_numpy()))
    chosen = np.full((len(x), options.count), -1, np.int64)
    own_document = np.searchsorted(hashes, pairs["y_hash"].to_numpy())
    inconsistent = np.zeros(len(x), bool)
    for start in range(0, len(x), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(x)))
        scores = x[rows] @ documents.T
        positive = np.einsum("nd,nd->n", x[rows], y[rows])
        if options.consistent is not None:
            nearer = scores > scores[np.arange(len(rows)), own_document[rows]][:, None]
            inconsistent[rows] = nearer.sum(axis=1) >= options.consistent
        for row, own, near in zip(rows, positive, _window(scores, options.first, options.last), strict=True):
            wrong = scores[row - start, near] <= options.margin * own
            wrong &= clusters[near] != own_cluster[row]
            wrong &= ~_within(_both(own_query[[row]], hashes[near]), answers)
            left = near[wrong]
            if len(left) >= options.count:
                chosen[row] = at[left[np.linspace(0, len(left) - 1, options.count).round().astype(int)]]
    found = (chosen[:, 0] >= 0) & ~inconsistent
    offsets = pa.array(np.arange(int(found.sum()) + 1, dtype=np.int64) * options.count)
    flat = pa.array(chosen[found].ravel())
    columns = (pa.LargeListArray.from_arrays(offsets, whole(pairs[name]).take(flat)) for name in ("y", "y_hash"))
    reasons = np.where(inconsistent, "inconsistent", "too_few_hard_negatives")
    ledger = Ledger.count("pairs", [None if one else str(why) for one, why in zip(found, reasons, strict=True)])
    return _with_hard(pairs.filter(pa.array(found)), *columns), ledger


def _window(scores: np.ndarray, first: int, last: int) -> list[np.ndarray]:
    """Of each row of `scores` (q, n) the positions at ranks first .. last - 1, by falling score, ties by position."""
    last = min(last, scores.shape[1])
    lowest = np.partition(scores, -last, axis=1)[:, -last] if last else np.zeros(len(scores))
    found = []
    for row, least in zip(scores, lowest, strict=True):
        near = np.flatnonzero(row >= least)
        found.append(near[np.argsort(-row[near], kind="stable")][first:last])
    return found


def _both(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """u64 hash of two u64 hashes; a collision would only leave a candidate out."""
    return x * np.uint64(0x9E3779B97F4A7C15) + y


def _within(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of `values` are among the sorted `known`."""
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values


def _with_hard(pairs: pa.Table, hard: pa.Array, hard_hash: pa.Array) -> pa.Table:
    hard_names = {field.name for field in HARD}
    plain = pairs.select([name for name in pairs.column_names if name not in hard_names])
    for field, column in zip(HARD, (hard, hard_hash), strict=True):
        plain = plain.append_column(field, column.cast(field.type))
    return plain


def _vectors(path: str, pairs: pa.Table) -> np.ndarray:
    """(n, D) float32 of the pairs, row by row."""
    table = read_table(path)
    at = pc.index_in(pairs["pair_id"].cast(pa.large_string()), value_set=whole(table["key"]))
    if at.null_count:
        raise UserError(f"{at.null_count:,} pairs have no vector", where=path, fix="embed these very pairs")
    column = table["vector"].combine_chunks()
    matrix = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    matrix = matrix.reshape(len(column), -1)[at.to_numpy()]
    if not np.isfinite(matrix).all():
        raise UserError("a vector is not finite", where=path, fix="look for NaN in the model's weights")
    return matrix
