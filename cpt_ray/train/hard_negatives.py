"""Hard negatives mined with a model: near a query, but not its answer.

    score     every query against every document, exactly (nearest.py)
    window    ranks `first` to `last` (the very nearest are often unlabelled answers)
    drop      false negatives: a known answer to an equal x, equal content or the same duplicate cluster as the
              positive, or by margin what scores nearly as high as it
    choose    `count` of what is left, spread evenly over the window, nearest first

A query with too few candidates left is dropped by name: every pair of a batch must have equally many. Only training pairs
are mined, among their own documents; what is held out stays as it is, and is no one's negative.

`consistent` is the filter of round trips (Dai et al. 2022, "Promptagator", section 3.2): a pair whose answer the model does
not find among the nearest is dropped as `inconsistent`, because as often as not its x says nothing of its y. Other right
answers that stand before it do not count.

Up to ONE_TABLE pairs are mined as one table. More go

1. by exchange: documents to their range of `y_hash`, each once; a range is a part in files, which workers map from disk
2. by exchange: of each x its answers, to the shards that have it
3. by map: a shard's queries against all parts, one after the other
4. by exchange: pairs to their range of `pair_id`, to be published
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts.columns import whole
from cpt_ray.artifacts.exchange import Sent, buckets_for, by_range, receive
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.parquet import read_schema, read_slice, slices_of
from cpt_ray.artifacts.parquet import read_table as read_parquet
from cpt_ray.artifacts.places import locate, writing
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import part_name, parts, read_manifest, read_table
from cpt_ray.errors import UserError
from cpt_ray.nearest import best_of, top_k
from cpt_ray.pairs.make import publish_pairs
from cpt_ray.pairs.phases import Phases, Shard, clear_phases, numbered
from cpt_ray.pairs.schema import ROWS_PER_PART
from cpt_ray.pairs.splits import HELDOUT, TRAIN, no_pairs, no_such_rows, read_side
from cpt_ray.train.finetune import HARD
from cpt_ray.train.options import MineOptions

BLOCK = 512
ONE_TABLE = 20_000
"""Pairs that are mined as one table, in memory."""
DOCUMENTS_PER_PART = 1 << 16
"""Documents of a part, about: of 256 dimensions and a kilobyte of text 128 MB, while it is written."""
NEGATIVES = Stage("hard_pairs", version=3, unit="pairs", reads=("pair_id", "x", "y", "y_hash", "cluster"))
ANSWERS = pa.schema([("x_hash", pa.uint64()), ("y_hash", pa.uint64()), ("shard", pa.int32())])
PLACED = pa.schema([("part", pa.int32()), ("documents", pa.int64())])


@dataclass(frozen=True)
class Documents:
    """Documents by rising hash, each once: hashes and clusters (n,) uint64, n texts, vectors (n, D) float32."""

    hashes: np.ndarray
    clusters: np.ndarray
    texts: pa.Array
    vectors: np.ndarray

    @staticmethod
    def of(rows: pa.Table, vectors: np.ndarray) -> Documents:
        """Those of pairs (columns pair_id, y_hash, cluster, y)."""
        at = _once(rows)
        hashes, clusters = (rows[name].to_numpy()[at] for name in ("y_hash", "cluster"))
        return Documents(hashes, clusters, whole(rows["y"]).take(pa.array(at)), vectors[at])

    def write(self, folder: str) -> None:
        """Each file whole: a task that was given to another node may still write while others have mapped them."""
        fs, target = locate(folder)
        os.makedirs(target, exist_ok=True)
        for name in ("hashes", "clusters", "vectors"):
            with writing(fs, f"{target}/{name}.npy") as sink:
                np.save(sink, getattr(self, name))
        table = pa.table({"text": self.texts})
        with writing(fs, f"{target}/texts.arrow") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)

    @staticmethod
    def read(folder: str) -> Documents:
        """Mapped from disk."""
        arrays = (np.load(os.path.join(folder, f"{name}.npy"), "r") for name in ("hashes", "clusters", "vectors"))
        hashes, clusters, vectors = arrays
        with pa.ipc.open_file(pa.memory_map(os.path.join(folder, "texts.arrow"))) as file:
            return Documents(hashes, clusters, file.get_batch(0)["text"], vectors)


class Searched:
    """Parts of the documents, none empty, numbered through."""

    def __init__(self, found: Sequence[Documents]) -> None:
        self.parts = found
        self.starts = np.cumsum([0, *(len(part.hashes) for part in found)])

    def nearest(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, D) -> scores and numbers (n, k) by falling score, ties by number, which is by hash."""
        found = (top_k(x, part.vectors, k) for part in self.parts)
        return best_of(found, self.starts, len(x), k)

    def told(self, column: str, numbers: np.ndarray) -> np.ndarray:
        """`hashes` or `clusters` of these documents, in the same shape."""
        found = np.empty(numbers.shape, np.uint64)
        for start, part in zip(self.starts, self.parts, strict=False):
            mine = (numbers >= start) & (numbers < start + len(part.hashes))
            found[mine] = getattr(part, column)[numbers[mine] - start]
        return found

    def texts(self, numbers: np.ndarray) -> pa.Array:
        """Of these (n,) documents."""
        found, order = [], np.argsort(numbers, kind="stable")
        edges = np.searchsorted(numbers[order], self.starts)
        for start, part, a, b in zip(self.starts, self.parts, edges, edges[1:], strict=False):
            found.append(part.texts.take(pa.array(numbers[order[a:b]] - start)))
        back = np.empty(len(numbers), np.int64)
        back[order] = np.arange(len(numbers))
        return pa.concat_arrays([pa.array([], pa.large_string()), *found]).take(pa.array(back))


def make_hard_pairs(path: str, *, pairs: str, x: str, y: str, options: MineOptions) -> Manifest:
    """Publish the pairs of the artifact `pairs` with mined hard negatives at `path`, in a folder.

    `x` and `y` are artifacts with the vectors of the two sides (columns `key`: pair_id, `vector`), of `pairs` itself.
    """
    inputs: dict[str, str | Manifest] = {name: read_manifest(at) for name, at in (("pairs", pairs), ("x", x), ("y", y))}
    made = read_manifest(pairs)
    if made.rows > ONE_TABLE and NEGATIVES.begun(path, params=options, inputs=inputs) != "done":
        return _across(path, pairs, x, y, options, inputs)
    with NEGATIVES.build(path, params=options, inputs=inputs) as work:
        if work.manifest is not None:
            clear_phases(path)
            return work.manifest
        table, training = read_table(pairs), read_side(pairs, TRAIN)
        heldout = table.filter(pc.not_equal(table["split"], TRAIN))
        mined, ledger = mine(training, _vectors(x, parts(x), training), _vectors(y, parts(y), training), options)
        found = pa.concat_tables([mined, _without_hard(heldout)]).sort_by("pair_id")
        ledger += Ledger.of("pairs", read=heldout.num_rows, kept=heldout.num_rows)
        return publish_pairs(work, found, ledger)


def mine(pairs: pa.Table, x: np.ndarray, y: np.ndarray, options: MineOptions) -> tuple[pa.Table, Ledger]:
    """`pairs` with the columns `hard` (list<string>) and `hard_hash` (list<u64>), without those that found too few.

    x and y (n, D) float32 are the L2-normalised embeddings of the two sides, row by row; the documents that are searched
    are the y of all pairs. Ties go to the smaller y_hash, so that the order of the rows does not matter.
    """
    answers = _both(pairs["x_hash"].to_numpy(), pairs["y_hash"].to_numpy())
    return _mine(pairs, x, y, Searched([Documents.of(pairs, y)]), answers, options)


def _mine(
    pairs: pa.Table, x: np.ndarray, y: np.ndarray, documents: Searched, answers: np.ndarray, options: MineOptions
) -> tuple[pa.Table, Ledger]:
    """The same for some of the pairs; `answers` are, as `_both` has them, at least those to their own x."""
    own_query, own_cluster = (pairs[name].to_numpy() for name in ("x_hash", "cluster"))
    answers = np.unique(answers)

    def right(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Which of these documents (n, k) answer x of these rows: known answers to an equal one, duplicates of its own."""
        known = _within(_both(own_query[rows, None], documents.told("hashes", numbers)), answers)
        return known | (documents.told("clusters", numbers) == own_cluster[rows, None])

    def wrong_before(
        rows: np.ndarray, positive: np.ndarray, scores: np.ndarray, numbers: np.ndarray, enough: int
    ) -> np.ndarray:
        """How many that are not right are nearer than `positive` (n,) among the nearest documents (n, k); if all of them are
        nearer and too few are wrong, among more."""
        found = ((scores > positive[:, None]) & ~right(rows, numbers)).sum(axis=1)
        undecided = np.flatnonzero((found < enough) & (scores[:, -1] > positive))
        if len(undecided) and numbers.shape[1] < documents.starts[-1]:
            deeper = documents.nearest(x[rows[undecided]], 2 * numbers.shape[1])
            found[undecided] = wrong_before(rows[undecided], positive[undecided], *deeper, enough)
        return found

    chosen = np.full((len(x), options.count), -1, np.int64)
    inconsistent = np.zeros(len(x), bool)
    for start in range(0, len(x), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(x)))
        positive = np.einsum("nd,nd->n", x[rows].astype(np.float64), y[rows].astype(np.float64)).astype(np.float32)
        # One more than has to be looked at, because the answer itself is among them.
        scores, numbers = documents.nearest(x[rows], max(options.last, (options.consistent or 0) + 1))
        if options.consistent is not None:
            before = wrong_before(rows, positive, scores, numbers, options.consistent)
            inconsistent[rows] = before >= options.consistent
        wrong = (scores <= options.margin * positive[:, None]) & ~right(rows, numbers)
        for at, usable in enumerate(wrong[:, options.first : options.last]):
            left = options.first + np.flatnonzero(usable)
            if len(left) >= options.count:
                spread = np.linspace(0, len(left) - 1, options.count).round().astype(int)
                chosen[start + at] = numbers[at, left[spread]]
    found = (chosen[:, 0] >= 0) & ~inconsistent
    offsets = pa.array(np.arange(int(found.sum()) + 1, dtype=np.int64) * options.count)
    flat = chosen[found].ravel()
    columns = (documents.texts(flat), pa.array(documents.told("hashes", flat)))
    hard = (pa.LargeListArray.from_arrays(offsets, values) for values in columns)
    reasons = np.where(inconsistent, "inconsistent", "too_few_hard_negatives")
    ledger = Ledger.count("pairs", [None if one else str(why) for one, why in zip(found, reasons, strict=True)])
    return _with_hard(pairs.filter(pa.array(found)), *hard), ledger


def _across(
    path: str, pairs: str, x: str, y: str, options: MineOptions, inputs: Mapping[str, str | Manifest]
) -> Manifest:
    """The same rows from pairs of any number."""
    schema = read_schema(parts(pairs)[0])
    if "split" not in schema.names:
        raise no_pairs(pairs)
    rows, vector = read_manifest(pairs).rows, read_schema(parts(y)[0]).field("vector").type
    phases = Phases(path, NEGATIVES, options.result(), inputs)
    shards, count = _shards(pairs, x, y), buckets_for(rows, DOCUMENTS_PER_PART)
    sending = pa.schema(
        [
            *(schema.field(name) for name in ("pair_id", "y_hash", "cluster", "y")),
            ("vector", pa.list_(pa.float32(), vector.list_size)),
        ]
    )
    to = partial(by_range, column="y_hash", buckets=count)
    sent, _ = phases.send("documents", partial(_documents, schema=sending), sending, shards, to, count)
    files = os.path.join(phases.folder, "files")
    write = partial(_part, sent=sent, folder=files)
    placed, _ = phases.map("parts", write, PLACED, [{"part": number} for number in range(count)])
    held = (read_parquet(name).to_pylist()[0] for name in placed)
    folders = [os.path.join(files, part_name(part["part"])) for part in held if part["documents"]]
    if not folders:
        raise no_such_rows(pairs, TRAIN)
    asked = phases.ask("answers", _answers, ANSWERS, shards, ("x_hash",), rows)
    told = phases.answer("known", _known, ANSWERS, asked, len(shards))
    gives = pa.schema([*_plain(schema), *HARD])
    mined = partial(_mined, folders=folders, told=told, options=options, schema=gives)
    count = buckets_for(rows, ROWS_PER_PART)
    last, made = phases.send("pairs", mined, gives, shards, partial(by_range, column="pair_id", buckets=count), count)
    units = dict(made.balance.units)
    sides = {name: units.pop(name).kept for name in (HELDOUT, TRAIN) if name in units}
    return phases.publish(
        last, ("pair_id",), Ledger(units), params=options.result(), inputs=inputs, extra={"splits": sides}
    )


def _shards(pairs: str, x: str, y: str) -> list[Shard]:
    """The pairs in pieces, each with the files of its vectors. UserError for vectors of other rows."""
    made, found = read_manifest(pairs), []
    for vectors in (x, y):
        manifest = read_manifest(vectors)
        pieces = slices_of(parts(pairs), manifest.params.get("rows_per_shard", 1))
        if manifest.inputs.get("source") != made.digest or len(pieces) != len(parts(vectors)):
            raise UserError("these are not the vectors of the pairs", where=vectors, fix="embed these very pairs")
        found.append(pieces)
    if found[0] != found[1]:
        raise UserError("the vectors of the two sides are cut otherwise", where=y, fix="embed both sides alike")
    together = zip(found[0], parts(x), parts(y), strict=True)
    return [{**piece, "number": number, "x": own, "y": other} for number, (piece, own, other) in enumerate(together)]


def _documents(shard: Shard, *, schema: pa.Schema) -> tuple[pa.Table, Ledger]:
    """The documents of a shard's training pairs, each once."""
    rows = _training(shard, schema.names[:-1])
    vectors = _vectors(shard["y"], [shard["y"]], rows)
    at = _once(rows)
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors[at].ravel()), vectors.shape[1])
    table = pa.table([*rows.take(pa.array(at)).columns, listed], schema=schema)
    dropped = {"repeated": len(rows) - len(table)}
    return table, Ledger.of("documents", read=len(rows), kept=len(table), dropped=dropped)


def _part(shard: Shard, *, sent: Sent, folder: str) -> tuple[pa.Table, Ledger]:
    """The documents of a range, in files that are mapped by who searches them."""
    rows = receive(sent, shard["part"])
    column = rows["vector"].combine_chunks()
    width = column.type.list_size
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    found = Documents.of(rows, vectors)
    found.write(os.path.join(folder, part_name(shard["part"])))
    kept = len(found.hashes)
    table = pa.table([pa.array([shard["part"]], pa.int32()), pa.array([kept], pa.int64())], schema=PLACED)
    return table, Ledger.of("documents", read=len(rows), kept=kept, dropped={"repeated": len(rows) - kept})


def _answers(shard: Shard) -> tuple[pa.Table, Ledger]:
    rows = _training(shard, ["x_hash", "y_hash"])
    table = pa.table([*rows.columns, numbered(shard, len(rows))], schema=ANSWERS)
    table = table.group_by(ANSWERS.names, use_threads=False).aggregate([])
    dropped = {"repeated": len(rows) - len(table)}
    return table, Ledger.of("answers", read=len(rows), kept=len(table), dropped=dropped)


def _known(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    """To every shard that has an x in common with another: the answers of both."""
    table = receive(sent, shard["bucket"], ANSWERS.names)
    asks = table.select(["x_hash", "shard"]).group_by(["x_hash", "shard"], use_threads=False).aggregate([])
    shared = asks.group_by("x_hash", use_threads=False).aggregate([("shard", "count")])
    shared = shared.filter(pc.greater(shared["shard_count"], 1)).select(["x_hash"])
    asks = asks.join(shared, "x_hash", join_type="left semi", use_threads=False)
    answer = asks.join(table.select(["x_hash", "y_hash"]), "x_hash", join_type="inner", use_threads=False)
    answer = answer.select(ANSWERS.names).group_by(ANSWERS.names, use_threads=False).aggregate([])
    return answer, Ledger.of("answers", read=len(answer), kept=len(answer))


def _mined(
    shard: Shard, *, folders: Sequence[str], told: Sent, options: MineOptions, schema: pa.Schema
) -> tuple[pa.Table, Ledger]:
    """A shard's pairs as they are published; the ledger counts each side in a unit of its name too."""
    names = [field.name for field in _plain(schema)]
    rows = read_slice(shard, names)
    training, heldout = _sides(rows)
    others = receive(told, shard["number"])
    answers = [_both(table["x_hash"].to_numpy(), table["y_hash"].to_numpy()) for table in (training, others)]
    documents = Searched([Documents.read(folder) for folder in folders])
    x, y = (_vectors(shard[side], [shard[side]], training) for side in "xy")
    mined, ledger = _mine(training, x, y, documents, np.concatenate(answers), options)
    ledger += Ledger.of("pairs", read=len(heldout), kept=len(heldout))
    for name, side in ((TRAIN, mined), (HELDOUT, heldout)):
        if len(side):
            ledger += Ledger.of(name, read=len(side), kept=len(side))
    return pa.concat_tables([mined, _without_hard(heldout)]).cast(schema), ledger


def _training(shard: Shard, columns: Sequence[str]) -> pa.Table:
    return _sides(read_slice(shard, [*columns, "split"]))[0].select(list(columns))


def _sides(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The training rows, and the others."""
    training = pc.equal(rows["split"], TRAIN)
    return rows.filter(training), rows.filter(pc.invert(training))


def _once(rows: pa.Table) -> np.ndarray:
    """Where each document of pairs stands, by rising y_hash: of equal ones the first by pair_id."""
    order = np.asarray(pc.sort_indices(rows, [("y_hash", "ascending"), ("pair_id", "ascending")]))
    hashes = rows["y_hash"].to_numpy()[order]
    return order[np.concatenate([np.ones(min(len(order), 1), bool), hashes[1:] != hashes[:-1]])]


def _both(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """u64 hash of two u64 hashes; a collision would only leave a candidate out."""
    return x * np.uint64(0x9E3779B97F4A7C15) + y


def _within(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of `values` are among the sorted `known`."""
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values


def _with_hard(pairs: pa.Table, hard: pa.Array, hard_hash: pa.Array) -> pa.Table:
    plain = pairs.select([field.name for field in _plain(pairs.schema)])
    for field, column in zip(HARD, (hard, hard_hash), strict=True):
        plain = plain.append_column(field, column.cast(field.type))
    return plain


def _without_hard(pairs: pa.Table) -> pa.Table:
    nothing = pa.array([[]] * pairs.num_rows, pa.list_(pa.null()))
    return _with_hard(pairs, nothing, nothing)


def _plain(schema: pa.Schema) -> list[pa.Field]:
    """The columns of pairs without hard negatives that they may have already."""
    names = {field.name for field in HARD}
    return [field for field in schema if field.name not in names]


def _vectors(where: str, files: Sequence[str], pairs: pa.Table) -> np.ndarray:
    """(n, D) float32 of the pairs, row by row."""
    table = read_parquet(list(files))
    at = pc.index_in(pairs["pair_id"].cast(pa.large_string()), value_set=whole(table["key"]))
    if at.null_count:
        raise UserError(f"{at.null_count:,} pairs have no vector", where=where, fix="embed these very pairs")
    column = table["vector"].combine_chunks()
    matrix: Any = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    matrix = matrix.reshape(-1, column.type.list_size)[at.to_numpy()]
    if not np.isfinite(matrix).all():
        raise UserError("a vector is not finite", where=where, fix="look for NaN in the model's weights")
    return matrix
