"""Rows of an artifact, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import parts
from cpt_ray.artifacts.parquet import read_batches, shards_of

Row = Mapping[str, Any]


def batches(path: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """All rows of the artifact at `path`, in its order; None reads all columns."""
    for shard in shards_of(parts(path)):
        yield from read_batches(shard, columns)


def rows_of(path: str, key: str, wanted: Collection[str], columns: Sequence[str] | None = None) -> dict[str, Row]:
    """The rows whose `key` column has one of these values, by it, with the `columns` asked for."""
    values = pa.array(sorted(wanted), pa.string())
    found: dict[str, Row] = {}
    for batch in batches(path, None if columns is None else [key, *columns]):
        for row in batch.filter(pc.is_in(batch[key], value_set=values)).to_pylist():
            found[row[key]] = row if columns is None else {name: row[name] for name in columns}
    return found
