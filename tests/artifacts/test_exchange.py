"""An exchange: every row arrives once, in the bucket of its key, in an order that content alone decides."""

from __future__ import annotations

import uuid
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.artifacts import Ledger, Stage
from cpt_ray.artifacts.exchange import Sent, by_hash, by_range, receive, send
from cpt_ray.artifacts.manifest import fingerprint
from cpt_ray.artifacts.places import locate, remove
from cpt_ray.errors import UserError

SCHEMA = pa.schema([("key", pa.string()), ("n", pa.int64())])


def _numbers(shard: dict[str, list[int]]) -> tuple[pa.Table, Ledger]:
    rows = shard["rows"]
    table = pa.table({"key": [fingerprint(n // 3) for n in rows], "n": rows}, schema=SCHEMA)
    return table, Ledger.of("rows", read=len(rows), kept=len(rows))


def sent(path, pieces: list[list[int]], to, buckets: int) -> Sent:
    stage = Stage("numbers", 1, SCHEMA, run=_numbers)
    shards = [{"rows": rows} for rows in pieces]
    made, manifest = send(str(path), stage, shards=shards, buckets=buckets, to=to, params={}, inputs={})
    assert manifest.balance.kept == sum(map(len, pieces))
    return made


@pytest.mark.parametrize("buckets", [1, 7])
def test_a_key_is_in_one_bucket_and_no_row_is_lost(tmp_path, buckets):
    """Cut and ordered otherwise, with empty shards too, the buckets are the same tables."""
    to = partial(by_hash, columns=("key",), buckets=buckets)
    order = np.random.default_rng(0).permutation(500).tolist()
    one = sent(tmp_path / "one", [[*range(500)]], to, buckets)
    many = sent(tmp_path / "many", [order[:3], [], order[3:200], order[200:]], to, buckets)
    tables = [receive(one, bucket, ("key", "n")) for bucket in range(buckets)]
    for bucket, table in enumerate(tables):
        assert table.schema == SCHEMA
        assert receive(many, bucket, ("key", "n")).equals(table)
    assert sorted(n for table in tables for n in table["n"].to_pylist()) == [*range(500)]
    keys = [set(table["key"].to_pylist()) for table in tables]
    assert sum(map(len, keys)) == len(set.union(*keys))


def test_rows_go_by_way_of_a_bucket_too(s3, tmp_path):
    """Spill files in a bucket: the rows of a folder; what was sent by other options is removed there too."""
    place = f"{s3}/{uuid.uuid4().hex}"
    for buckets in (2, 3):
        to = partial(by_hash, columns=("key",), buckets=buckets)
        there = sent(f"{place}/some", [[*range(50)], [], [50]], to, buckets)
        here = sent(tmp_path / "some", [[*range(51)]], to, buckets)
        for bucket in range(buckets):
            assert receive(there, bucket, ("key", "n")).equals(receive(here, bucket, ("key", "n")))
        fs, target = locate(place)
        spills = [name for name in fs.find(target) if name.endswith(".arrow")]
        assert len(spills) == 3
    remove(fs, target)
    assert fs.find(target) == []


def test_ranges_follow_one_another(tmp_path):
    """Bucket after bucket, each sorted, is the whole sorted."""
    made = sent(tmp_path / "x", [[*range(100)], [*range(100, 300)]], partial(by_range, column="key", buckets=9), 9)
    keys = [key for bucket in range(9) for key in receive(made, bucket, ("key",))["key"].to_pylist()]
    assert len(keys) == 300
    assert keys == sorted(keys)


def test_nothing_is_an_empty_bucket_and_lost_rows_are_an_error(tmp_path):
    """No shard and no row give the declared columns; a spill file that was removed is never taken for no rows."""
    to = partial(by_hash, columns=("key",), buckets=2)
    assert receive(sent(tmp_path / "none", [], to, 2), 1, ("key",)).equals(SCHEMA.empty_table())
    made = sent(tmp_path / "some", [[1, 2], [3]], to, 2)
    next((tmp_path).glob("some.rows-*/part-00001.arrow")).unlink()
    with pytest.raises(UserError, match="gone"):
        receive(made, 0, ("key",))


def test_what_was_sent_by_other_options_does_not_stay(tmp_path):
    """The same place with another number of buckets: the spill files of before are gone, nothing else is."""
    (tmp_path / "some.rows").mkdir()
    for buckets in (2, 3):
        sent(tmp_path / "some", [[1, 2], [3]], partial(by_hash, columns=("key",), buckets=buckets), buckets)
        assert len([*tmp_path.glob("some.rows-*")]) == 1
    assert (tmp_path / "some.rows").exists()
