"""Columns beyond 32-bit offsets: gathered as one array, written in chunks that every reader takes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cpt_ray.artifacts import columns
from cpt_ray.artifacts.columns import narrow, whole
from cpt_ray.pairs.schema import survivors

SCHEMA = pa.schema([("id", pa.string()), ("ids", pa.list_(pa.int32())), ("n", pa.int64())])


def _table(rows: int) -> pa.Table:
    return pa.table(
        {"id": [f"d{i}" for i in range(rows)], "ids": [list(range(i % 4)) for i in range(rows)], "n": range(rows)},
        schema=SCHEMA,
    )


def test_gathered_and_back_is_the_same(monkeypatch):
    """Through 64-bit offsets, shuffled, and back in chunks: the rows, and the bytes of the types, are what they were."""
    monkeypatch.setattr(columns, "ROWS", 7)
    table = pa.concat_tables([_table(10), _table(33)])
    order = np.random.default_rng(0).permutation(table.num_rows)
    gathered = pa.table({name: whole(table[name]).take(pa.array(order)) for name in SCHEMA.names})
    assert gathered.schema.field("id").type == pa.large_string()
    assert gathered.schema.field("ids").type == pa.large_list(pa.int32())
    found = narrow(gathered, SCHEMA)
    assert found.schema == SCHEMA
    assert found.equals(table.take(pa.array(order)))
    assert narrow(SCHEMA.empty_table(), SCHEMA).num_rows == 0


@pytest.mark.slow
def test_beyond_two_gigabytes_of_ids():
    """67 million ids of 32 characters: what 32-bit offsets refuse is gathered, looked up, and written in chunks."""
    chunk = pa.array([f"{i:032d}" for i in range(1 << 20)])
    ids = pa.chunked_array([chunk] * 65)
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):
        ids.combine_chunks()
    gathered = whole(ids)
    assert len(gathered) == 65 << 20
    last = gathered[len(gathered) - 1].as_py()
    assert last == chunk[-1].as_py()
    clusters = pa.table(
        {"doc_id": ids, "cluster_id": ids, "kept": pa.chunked_array([pa.array([True] * len(chunk))] * 65)}
    )
    assert survivors(pa.chunked_array([chunk[5:7]]), clusters).cluster_id == chunk[5:7].to_pylist()
    back = narrow(pa.table({"id": gathered}), pa.schema([("id", pa.string())]))
    assert back.num_rows == len(gathered)
    assert back["id"][-1].as_py() == last
    assert pc.sum(pc.binary_length(back["id"])).as_py() == 32 * len(gathered)


@pytest.mark.slow
def test_beyond_two_to_the_31_list_values():
    """17 million lists of 126 tokens."""
    chunk = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 126 * (1 << 18) + 1, 126, dtype=np.int32)), pa.array(np.zeros(126 << 18, np.int32))
    )
    lists = pa.chunked_array([chunk] * 66)
    with pytest.raises(pa.ArrowInvalid):
        lists.combine_chunks()
    gathered = whole(lists)
    assert len(gathered.values) > 1 << 31
    assert len(gathered[len(gathered) - 1].as_py()) == 126
