"""Mined hard negatives of pairs of any number: by exchanges the rows are those of one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from cpt_ray.artifacts import Ledger, build, parquet, parts, read_manifest, read_table
from cpt_ray.errors import UserError
from cpt_ray.pairs import phases
from cpt_ray.train import hard_negatives
from cpt_ray.train.hard_negatives import make_hard_pairs, mine
from cpt_ray.train.options import MineOptions

SHARD = 37


def pairs_of(count: int, seed: int = 0) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Sorted by pair_id; some share a y, some an x (each another answer of it), some a cluster."""
    rng = np.random.default_rng(seed)
    names = sorted(xxhash.xxh3_128_hexdigest(b"%d" % i) for i in range(count))
    document, query = rng.integers(0, count * 3 // 4, count), rng.integers(0, count * 3 // 4, count)
    table = pa.table(
        {
            "pair_id": names,
            "split": ["heldout" if i % 7 == 3 else "train" for i in range(count)],
            "x": [f"query {i}" for i in query],
            "y": [f"document {i}" for i in document],
            "x_hash": pa.array([xxhash.xxh3_64_intdigest(b"x%d" % i) for i in query], pa.uint64()),
            "y_hash": pa.array([xxhash.xxh3_64_intdigest(b"y%d" % i) for i in document], pa.uint64()),
            "cluster": pa.array(document // 3, pa.uint64()),
        }
    )
    wide = rng.standard_normal((2, count, 24)).astype(np.float32)
    y, x = wide[0][document], wide[0][document] + 1.5 * wide[1][query]
    return table, *(side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))


def published(folder: Path, table: pa.Table, rows: int, step: str = "pairs", **recipe: Any) -> str:
    path = str(folder)
    with build(path, step=step, version=1, **{"params": {}, **recipe}) as work:
        work.write_parts(table, rows)
        work.publish(Ledger.of("pairs", read=len(table), kept=len(table)), rows=len(table), schema=table.schema)
    return path


def embedded(folder: Path, pairs: str, vectors: np.ndarray, rows_per_shard: int = SHARD) -> str:
    """As `embed` publishes them: a part for every so many rows of a part of the pairs."""
    path, at = str(folder), 0
    with build(
        path,
        step="embeddings",
        version=1,
        params={"rows_per_shard": rows_per_shard},
        inputs={"source": read_manifest(pairs)},
    ) as work:
        for number, piece in enumerate(parquet.slices_of(parts(pairs), rows_per_shard)):
            flat = pa.array(vectors[at : at + piece["rows"]].ravel())
            listed = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
            keys = parquet.read_slice(piece, ["pair_id"])["pair_id"]
            work.write(f"part-{number:05d}.parquet", pa.table({"key": keys, "vector": listed}))
            at += piece["rows"]
        work.publish(Ledger.of("vectors", read=at, kept=at), rows=at)
    return path


@pytest.mark.parametrize(
    "options",
    [MineOptions(count=3, first=2, last=40, margin=0.4), MineOptions(count=1, first=0, last=9, margin=2, consistent=3)],
)
def test_exchanges_give_the_rows_of_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: MineOptions
) -> None:
    """However pairs are cut into files and documents into parts; nothing is left of the way."""
    table, x, y = pairs_of(600)
    whole = published(tmp_path / "pairs", table, 1000)
    vectors = {name: embedded(tmp_path / name, whole, side) for name, side in (("x", x), ("y", y))}
    one = make_hard_pairs(str(tmp_path / "one"), pairs=whole, **vectors, options=options)
    want = read_table(str(tmp_path / "one"))
    assert one.ledger["pairs"]["dropped"]
    monkeypatch.setattr(hard_negatives, "ONE_TABLE", 10)
    monkeypatch.setattr(hard_negatives, "DOCUMENTS_PER_PART", 100)
    monkeypatch.setattr(hard_negatives, "ROWS_PER_PART", 150)
    monkeypatch.setattr(phases, "buckets_for", lambda rows: 3)
    for rows in (600, 130):
        pairs, out = published(tmp_path / f"pairs-{rows}", table, rows), str(tmp_path / f"out-{rows}")
        vectors = {name: embedded(tmp_path / f"{name}-{rows}", pairs, side) for name, side in (("x", x), ("y", y))}
        made = make_hard_pairs(out, pairs=pairs, **vectors, options=options)
        assert read_table(out).equals(want)
        assert len(parts(out)) == 4
        assert (made.ledger, made.extra) == (one.ledger, one.extra)
        assert not Path(f"{out}.phases").exists()
        assert make_hard_pairs(out, pairs=pairs, **vectors, options=options).created == made.created


def test_an_answer_in_another_shard_is_no_negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every x of one text: all documents answer it, so that nothing is left for any pair."""
    table, x, y = pairs_of(200)
    table = table.set_column(4, "x_hash", pa.array(np.zeros(200, np.uint64)))
    pairs = published(tmp_path / "pairs", table, 1000)
    vectors = {name: embedded(tmp_path / name, pairs, side) for name, side in (("x", x), ("y", y))}
    monkeypatch.setattr(hard_negatives, "ONE_TABLE", 10)
    options = MineOptions(first=0, last=50, margin=2)
    made = make_hard_pairs(str(tmp_path / "out"), pairs=pairs, **vectors, options=options)
    assert made.ledger["pairs"]["dropped"] == {"too_few_hard_negatives": made.ledger["pairs"]["read"] - made.rows}
    assert set(read_table(str(tmp_path / "out"))["split"].to_pylist()) == {"heldout"}


def test_vectors_of_other_pairs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another artifact, of sides cut otherwise, and where no pair is for training."""
    monkeypatch.setattr(hard_negatives, "ONE_TABLE", 10)
    table, x, y = pairs_of(100)
    pairs, other = (published(tmp_path / name, table.slice(at), 1000) for name, at in (("pairs", 0), ("other", 1)))
    vectors = {"x": embedded(tmp_path / "x", pairs, x), "y": embedded(tmp_path / "y", pairs, y)}
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match="not the vectors of the pairs"):
        make_hard_pairs(out, pairs=other, **vectors, options=MineOptions())
    cut = embedded(tmp_path / "cut", pairs, y, rows_per_shard=11)
    with pytest.raises(UserError, match="cut otherwise"):
        make_hard_pairs(out, pairs=pairs, x=vectors["x"], y=cut, options=MineOptions())
    held = table.set_column(1, "split", pa.array(["heldout"] * 100))
    pairs = published(tmp_path / "held", held, 1000)
    vectors = {name: embedded(tmp_path / f"held-{name}", pairs, side) for name, side in (("x", x), ("y", y))}
    with pytest.raises(UserError, match="no pair is of the train side"):
        make_hard_pairs(out, pairs=pairs, **vectors, options=MineOptions())


def test_the_nearest_by_sorting_all_scores() -> None:
    """Oracle: every score alone in double precision, one query at a time."""
    table, x, y = pairs_of(150)
    options = MineOptions(count=2, first=3, last=30, margin=0.95)
    mined, _ = mine(table, x, y, options)
    rows = {name: table[name].to_pylist() for name in table.column_names}
    first = {content: at for at, content in reversed(list(enumerate(rows["y_hash"])))}
    documents = sorted(first.items())
    answers = set(zip(rows["x_hash"], rows["y_hash"], strict=True))
    want = {}
    for at, name in enumerate(rows["pair_id"]):
        scores = {content: np.float32(x[at].astype(float) @ y[own].astype(float)) for content, own in documents}
        positive = np.float32(x[at].astype(float) @ y[at].astype(float))
        window = sorted(scores, key=lambda content: (-scores[content], content))[3:30]
        left = [
            content
            for content in window
            if scores[content] <= np.float32(0.95) * positive
            and rows["cluster"][first[content]] != rows["cluster"][at]
            and (rows["x_hash"][at], content) not in answers
        ]
        if len(left) >= 2:
            want[name] = [left[0], left[-1]]
    assert len(want) > 100
    assert dict(zip(mined["pair_id"].to_pylist(), mined["hard_hash"].to_pylist(), strict=True)) == want
