"""Batches made by exchanges: the bytes and the ledger of one table, for any number of shards, buckets, ranges and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.artifacts import Manifest, exchange, parquet, read_manifest
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.pairs import batches, batches_across, order
from cpt_ray.pairs.batches_across import make_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from tests.pairs import test_across as across


def ids(texts: list[str]) -> list[list[int]]:
    return [[ord(c) for c in text] for text in texts]


def some_pairs(count: int = 900) -> pa.Table:
    """Three sources, clusters of which one is hot, both sides of a split, empty texts, ids that stand twice."""
    rng = np.random.default_rng(0)
    cluster = np.where(rng.random(count) < 0.15, 1, rng.integers(0, 300, count)).astype(np.uint64)
    hashes = rng.integers(0, 1 << 62, (2, count)).astype(np.uint64)
    table = pa.table(
        {
            "pair_id": [f"{i * 7919 % 100_003:032x}" for i in range(count)],
            "source": [("code", "text", "text", "web")[i % 4] if i % 50 else "tiny" for i in range(count)],
            "split": ["heldout" if i % 9 == 0 else "train" for i in range(count)],
            "x": [f"x {i}" if i % 40 else "  " for i in range(count)],
            "y": [f"the other side of {i}" for i in range(count)],
            "x_hash": pa.array(hashes[0]),
            "y_hash": pa.array(hashes[1]),
            "cluster": pa.array(cluster),
            "cluster_size": pa.array(cluster % np.uint64(5), pa.int32()),
            "hard": [[f"not {i}", "nor this", "more"][: 1 if i % 33 == 0 else 3] for i in range(count)],
            "hard_hash": pa.array([[i, 2, 3][: 1 if i % 33 == 0 else 3] for i in range(count)], pa.list_(pa.uint64())),
        }
    )
    return pa.concat_tables([table, table.slice(100, 3)])


def publish(path: Path, table: pa.Table, files: int) -> str:
    return across.publish(path, table, files, seed=files, row_group=90)


def make(path: Path, pairs: str, options: BatchOptions, split: str | None = "train") -> Manifest:
    return make_batches(str(path), pairs, listed(ids), options, inputs={"pairs": "same"}, split=split)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.glob("*.parquet"))}


def few(monkeypatch: pytest.MonkeyPatch, rows: int, told: int) -> None:
    """So small that every exchange has many buckets and every shard several tasks."""
    monkeypatch.setattr(batches_across, "ONE_TABLE", 0)
    monkeypatch.setattr(batches_across, "TOLD", told)
    monkeypatch.setattr(exchange, "BUCKET_ROWS", rows)


CASES: list[dict[str, Any]] = [
    {"batch_size": 16, "epochs": 1},
    {"batch_size": 16, "epochs": 3.5, "homogeneous": False, "seed": 3},
    {"batch_size": 12, "steps": 30, "weights": {"code": 1, "web": 30, "text": 0}},
    {"batch_size": 16, "steps": 20, "hard_negatives": 2, "max_y_tokens": 3},
    {"batch_size": 16, "epochs": 1.5, "rehydrate": 3},
]


@pytest.mark.parametrize("options", CASES)
def test_exchanges_give_the_bytes_of_one_table(tmp_path, monkeypatch, options):
    """Whatever the files, buckets and tasks, one range of batches or several: equal bytes, and an equal ledger."""
    monkeypatch.setattr(batches, "BATCHES_PER_PART", 7)
    pairs = {files: publish(tmp_path / f"pairs-{files}", some_pairs(), files) for files in (1, 3, 5)}
    for slots in (1 << 20, 100):
        monkeypatch.setattr(order, "RANGE", slots)
        whole = make(tmp_path / f"whole-{slots}", pairs[3], BatchOptions(**options))
        assert whole.extra["batches"] > 7
        for files, bucket, told in ((1, 1 << 20, 1 << 17), (5, 60, 37)):
            path = tmp_path / f"made-{slots}-{files}"
            with monkeypatch.context() as patched:
                few(patched, bucket, told)
                made = make(path, pairs[files], BatchOptions(**options))
            assert contents(path) == contents(tmp_path / f"whole-{slots}")
            assert (made.ledger, made.extra, made.columns) == (whole.ledger, whole.extra, whole.columns)
            assert made.digest == whole.digest
            assert not path.with_suffix(".phases").exists()


def test_pairs_are_not_read_for_batches_that_stand(tmp_path, monkeypatch):
    """Nor are they, however many, held in memory."""
    pairs = publish(tmp_path / "pairs", some_pairs(), 3)
    made = make(tmp_path / "made", pairs, BatchOptions(batch_size=16))

    def read(*args: object) -> None:
        raise AssertionError("the pairs are read")

    monkeypatch.setattr(parquet, "opened", read)
    assert make(tmp_path / "made", pairs, BatchOptions(batch_size=16)).digest == made.digest


@pytest.mark.parametrize("homogeneous", [True, False])
def test_ranges_keep_what_an_order_promises(tmp_path, monkeypatch, homogeneous):
    """Cut into ranges of three batches: no cluster twice in a batch, full batches, a longer order begins with a shorter
    one, and an epoch shows nearly every pair once."""
    monkeypatch.setattr(order, "RANGE", 3 * 16)
    pairs = publish(tmp_path / "pairs", some_pairs(), 2)
    make(tmp_path / "long", pairs, BatchOptions(batch_size=16, steps=40, homogeneous=homogeneous))
    make(tmp_path / "short", pairs, BatchOptions(batch_size=16, steps=10, homogeneous=homogeneous))
    long, short = (batches.BatchReader(str(tmp_path / name)) for name in ("long", "short"))
    assert all(long[step].equals(short[step]) for step in range(10))
    for step in range(40):
        assert len(set(long[step]["cluster"].to_pylist())) == len(long[step]) == 16
    seen = [name for step in range(40) for name in long[step]["pair_id"].to_pylist()]
    assert len(set(seen)) > 0.8 * len(seen)


def test_streams_that_end_are_made_longer(tmp_path, monkeypatch):
    """With a cluster so hot that pairs wait for epochs, more epochs are sent until the batches are full."""
    table = some_pairs()
    hot = pa.array(np.where(np.arange(len(table)) % 3, 1, np.arange(len(table))), pa.uint64())
    pairs = publish(tmp_path / "pairs", table.set_column(7, "cluster", hot), 2)
    options = BatchOptions(batch_size=16, steps=12, homogeneous=False)
    whole = make(tmp_path / "whole", pairs, options)
    few(monkeypatch, 100, 50)
    made = make(tmp_path / "made", pairs, options)
    assert contents(tmp_path / "made") == contents(tmp_path / "whole")
    assert made.ledger == whole.ledger


class Killed(BaseException):
    """In place of a signal: nothing catches it, and nothing is written after it."""


def test_a_kill_at_any_write_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """Killed at a write of each step in turn, half of the file written; the same call then ends as if undisturbed."""
    pairs, options = publish(tmp_path / "pairs", some_pairs(), 3), BatchOptions(batch_size=16, epochs=2)
    whole = make(tmp_path / "whole", pairs, options)
    few(monkeypatch, 200, 150)
    real, left, killed = parquet.write_table, 0, 0

    def write_table(path: str, table: pa.Table, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            Path(path).write_bytes(b"PAR1 half a file")
            raise Killed
        return real(path, table, **named)

    monkeypatch.setattr(parquet, "write_table", write_table)
    while True:
        left = killed % 5 + 1
        try:
            make(tmp_path / "made", pairs, options)
        except Killed:
            killed += 1
            continue
        break
    assert killed > 5
    assert contents(tmp_path / "made") == contents(tmp_path / "whole")
    assert read_manifest(str(tmp_path / "made")).ledger == whole.ledger
    assert not (tmp_path / "made.phases").exists()


def test_mistakes_are_those_of_one_table(tmp_path, monkeypatch):
    """Too few clusters, a weight for no source, a side without pairs, no pairs at all: the same words, the same key."""
    pairs = publish(tmp_path / "pairs", some_pairs(), 2)
    for options in ({"batch_size": 500}, {"batch_size": 16, "weights": {"c": 1.0}}):
        said = []
        for rows in (50_000, 0):
            monkeypatch.setattr(batches_across, "ONE_TABLE", rows)
            with pytest.raises(UserError) as error:
                make(tmp_path / "made", pairs, BatchOptions(**options))
            said.append(str(error.value))
        assert said[0] == said[1]
    with pytest.raises(UserError, match="no pair is of the other side"):
        make(tmp_path / "made", pairs, BatchOptions(batch_size=16), split="other")
    bare = publish(tmp_path / "bare", some_pairs().drop_columns(["y", "split"]), 2)
    with pytest.raises(UserError, match="no pairs artifact"):
        make(tmp_path / "made", bare, BatchOptions(batch_size=16))
    with pytest.raises(UserError, match="no column 'y'"):
        make(tmp_path / "made", bare, BatchOptions(batch_size=16), split=None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_number_of_workers_does_not_show(tmp_path, monkeypatch):
    """1, 2 and 4 Ray workers, and none: equal bytes."""
    pairs = publish(tmp_path / "pairs", some_pairs(), 4)
    few(monkeypatch, 100, 50)
    options = BatchOptions(batch_size=16, epochs=2)
    make(tmp_path / "here", pairs, options)
    for workers in (1, 2, 4):
        with connect(ClusterOptions(cpus=workers)):
            make(tmp_path / f"made-{workers}", pairs, options)
        assert contents(tmp_path / f"made-{workers}") == contents(tmp_path / "here")
