"""The training order: a pure function of seed and content, without two members of a cluster in a batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from cpt_ray.errors import UserError
from cpt_ray.pairs.batches import BATCHES, BatchReader, build_batches, materialise
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed


def ids(texts: list[str]) -> list[list[int]]:
    return [[ord(c) for c in text] for text in texts]


encode = listed(ids)


def make_pairs(count: int = 500, clusters: int = 200, sources: tuple[str, ...] = ("a", "b")) -> pa.Table:
    rows = [f"pair {i}" for i in range(count)]
    hashed = [xxhash.xxh3_64_intdigest(row.encode()) for row in rows]
    return pa.table(
        {
            "pair_id": [hashlib.md5(row.encode()).hexdigest() for row in rows],
            "source": [sources[i % len(sources)] for i in range(count)],
            "x": rows,
            "y": [f"the other side of {row}" for row in rows],
            "x_hash": pa.array(hashed, pa.uint64()),
            "y_hash": pa.array([value ^ 1 for value in hashed], pa.uint64()),
            "cluster": pa.array([(i * 7919) % clusters for i in range(count)], pa.uint64()),
        }
    )


def order(pairs: pa.Table, **options: object) -> pa.Table:
    tables, ledger = materialise(pairs, encode, BatchOptions(**options))
    ledger.check("test")
    return pa.concat_tables(list(tables))


def test_batches_depend_on_content_and_seed_and_not_on_arrival_order() -> None:
    """Shuffled input gives the same table; another seed gives another."""
    pairs = make_pairs()
    shuffled = pairs.take(np.random.default_rng(1).permutation(pairs.num_rows))
    first = order(pairs, batch_size=32, epochs=3)
    assert first.schema == BATCHES
    assert first.equals(order(shuffled, batch_size=32, epochs=3))
    assert not first["pair_id"].equals(order(pairs, batch_size=32, epochs=3, seed=1)["pair_id"])


def test_batch_k_does_not_depend_on_how_many_batches_are_asked_for() -> None:
    """Batch k is a function of (seed, k): a longer run begins with the shorter one."""
    pairs = make_pairs()
    short, long = order(pairs, batch_size=32, steps=5), order(pairs, batch_size=32, steps=40)
    assert long.slice(0, short.num_rows).equals(short)


@pytest.mark.parametrize("homogeneous", [True, False])
def test_no_batch_holds_two_members_of_a_cluster(homogeneous: bool) -> None:
    """Clusters of several pairs are spread over batches, through several epochs, and every batch is full."""
    table = order(make_pairs(clusters=80), batch_size=32, epochs=4, homogeneous=homogeneous)
    for batch in range(table.num_rows // 32):
        rows = table.slice(batch * 32, 32)
        assert set(rows["batch"].to_pylist()) == {batch}
        assert rows["slot"].to_pylist() == list(range(32))
        assert len(set(rows["cluster"].to_pylist())) == 32
        assert not homogeneous or len(set(rows["source"].to_pylist())) == 1


def test_an_epoch_shows_every_pair_once() -> None:
    """Without conflicts, the batches of epoch 0 hold each pair at most once and all but less than a batch."""
    pairs = make_pairs(count=512, clusters=512, sources=("only",))
    pairs = pairs.set_column(6, "cluster", pa.array(range(512), pa.uint64()))
    table = order(pairs, batch_size=64, epochs=2)
    ids = table["pair_id"].to_pylist()
    assert sorted(ids[:512]) == sorted(pairs["pair_id"].to_pylist()) == sorted(ids[512:])
    assert ids[:512] != ids[512:]


def test_rehydration_shows_a_pair_as_often_as_its_cluster_has_documents() -> None:
    """Up to the bound, spread over the epoch and never twice in a batch; a bound of one is the order without it."""
    pairs = make_pairs(count=400, clusters=400, sources=("only",))
    pairs = pairs.set_column(6, "cluster", pa.array(range(400), pa.uint64()))
    sizes = pa.array([(1, 1, 2, 9)[i % 4] for i in range(400)], pa.int32())
    sized = pairs.append_column("cluster_size", sizes)
    assert order(sized, batch_size=10, epochs=1).equals(order(pairs, batch_size=10, epochs=1))
    assert "rehydrate" not in BatchOptions().result()
    table = order(sized, batch_size=10, epochs=1, rehydrate=3)
    assert table.num_rows == 100 * (1 + 1 + 2 + 3)
    of_pair = dict(zip(pairs["pair_id"].to_pylist(), sizes.to_pylist(), strict=True))
    shown = Counter(table["pair_id"].to_pylist())
    # A copy that comes while another one waits for a batch without its cluster is left out, and the next epoch begins.
    right = sum(count == min(3, of_pair[name]) for name, count in shown.items())
    assert right > 390
    for batch in range(70):
        of_batch = table["cluster"][10 * batch : 10 * batch + 10].to_pylist()
        assert len(set(of_batch)) == 10
    half = Counter(table["pair_id"][:350].to_pylist())
    assert 0.4 < sum(half[name] for name, size in of_pair.items() if size == 9) / 300 < 0.6
    with pytest.raises(UserError, match="cluster_size"):
        order(pairs, batch_size=10, rehydrate=2)


@pytest.mark.parametrize("homogeneous", [True, False])
def test_weights_set_the_share_of_each_source(homogeneous: bool) -> None:
    """Drawn pairs stay within one batch of the declared shares at every step."""
    table = order(make_pairs(clusters=499), batch_size=20, steps=40, weights={"a": 3, "b": 1}, homogeneous=homogeneous)
    seen = np.cumsum(np.array(table["source"].to_pylist()) == "a")[19::20]
    due = 0.75 * 20 * np.arange(1, 41)
    assert np.abs(seen - due).max() <= 20


def test_dropped_pairs_have_a_reason() -> None:
    """An empty side, a repeated id, a source too small for a batch, and pairs not reached are all in the ledger."""
    pairs = make_pairs(count=300, clusters=299, sources=("a",))
    tiny = make_pairs(count=4, sources=("tiny",)).set_column(0, "pair_id", pa.array(list("wxyz")))
    bad = (
        make_pairs(count=1, sources=("a",)).set_column(0, "pair_id", pa.array(["!"])).set_column(3, "y", pa.array([""]))
    )
    everything = pa.concat_tables([pairs, pairs.slice(0, 2), tiny, bad])
    tables, ledger = materialise(everything, encode, BatchOptions(batch_size=50, steps=2))
    assert sum(table.num_rows for table in tables) == 100
    dropped = ledger.check("test").units["pairs"].dropped
    assert dropped["same_pair_id"] == 2
    assert dropped["source_smaller_than_batch"] == 4
    assert dropped["empty_side"] == 1
    assert dropped["not_reached"] + dropped.get("cluster_conflict", 0) == 200


def test_impossible_orders_are_user_errors() -> None:
    """Too few clusters for a batch and a weight for no source name the key."""
    with pytest.raises(UserError, match="batch_size"):
        order(make_pairs(count=500, clusters=10), batch_size=32)
    with pytest.raises(UserError, match="weights"):
        order(make_pairs(), batch_size=32, weights={"c": 1.0})


def test_tokens_are_truncated_without_delimiters() -> None:
    table = order(make_pairs(), batch_size=8, steps=1, max_x_tokens=3, max_y_tokens=5)
    assert {len(row) for row in table["x_ids"].to_pylist()} == {3}
    assert {len(row) for row in table["y_ids"].to_pylist()} == {5}
    assert table["y_ids"][0].as_py() == [ord(c) for c in "the o"]


def test_published_batches_are_byte_equal_and_read_by_step(tmp_path: Path) -> None:
    """One row group per global batch; random access and the prefetching reader agree; two builds are byte-equal."""
    options = BatchOptions(batch_size=16, steps=70)
    for name in ("one", "two"):
        build_batches(str(tmp_path / name), make_pairs(), encode, options, {"pairs": "digest"})
    files = sorted((tmp_path / "one").glob("*.parquet"))
    assert len(files) == 2
    assert all(file.read_bytes() == (tmp_path / "two" / file.name).read_bytes() for file in files)
    reader = BatchReader(str(tmp_path / "one"))
    assert len(reader) == 70
    assert set(reader[67]["batch"].to_pylist()) == {67}
    followed = list(reader.follow(start=60))
    assert [step for step, _ in followed] == list(range(60, 70))
    assert all(table.equals(reader[step]) for step, table in followed)
    for _step, _table in reader.follow(ahead=1):
        break  # leaving early must not hang on the reading thread


def test_hard_negatives_travel_with_their_pair() -> None:
    """Equally many for each pair, in order, truncated like y; a pair with too few or an empty one is dropped by name."""
    pairs = make_pairs(count=60, clusters=59, sources=("a",))
    hard = [[f"not {i}", f"nor {i}", "more"] for i in range(60)]
    hard[7], hard[8] = ["one"], ["one", ""]
    hashes = [[i, i + 1000, 5][: len(row)] for i, row in enumerate(hard)]
    pairs = pairs.append_column("hard", pa.array(hard)).append_column(
        "hard_hash", pa.array(hashes, pa.list_(pa.uint64()))
    )
    tables, ledger = materialise(pairs, encode, BatchOptions(batch_size=29, steps=2, hard_negatives=2, max_y_tokens=5))
    table = pa.concat_tables(list(tables))
    assert ledger.check("test").units["pairs"].dropped["too_few_hard_negatives"] == 2
    number = {pair: i for i, pair in enumerate(pairs["pair_id"].to_pylist())}
    for pair, found, content in zip(*(table[c].to_pylist() for c in ("pair_id", "hard_ids", "hard_hash")), strict=True):
        assert found == ids([text[:5] for text in hard[number[pair]][:2]])
        assert content == hashes[number[pair]][:2]
    with pytest.raises(UserError, match="hard"):
        materialise(make_pairs(), encode, BatchOptions(batch_size=8, hard_negatives=1))
