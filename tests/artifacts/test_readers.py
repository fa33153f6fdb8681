"""The parts of an artifact are Parquet like any other: pandas and DuckDB read what we wrote (Ray Data: tests/test_corpus)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from cpt_ray.artifacts import Ledger, build, parts
from cpt_ray.code.functions import FUNCTIONS
from cpt_ray.dedup.cluster import CLUSTERS
from cpt_ray.pairs.batches import BATCHES, HARD
from cpt_ray.pairs.corpus import CORPUS
from cpt_ray.pairs.schema import PAIRS
from cpt_ray.serve.embed import schema as vectors
from cpt_ray.web.extract import DOCUMENTS

SCHEMAS = {
    "documents": DOCUMENTS,
    "clusters": CLUSTERS,
    "functions": FUNCTIONS,
    "pairs": PAIRS,
    "corpus": CORPUS,
    "batches": pa.schema([*BATCHES, *HARD]),
    "vectors": vectors(3, "float32"),
    "half vectors": vectors(3, "float16"),
}


def sample(kind: pa.DataType, large: bool) -> Any:
    """A value of a column, of the large ones if there are."""
    if pa.types.is_fixed_size_list(kind):
        return [sample(kind.value_type, large)] * kind.list_size
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [sample(kind.value_type, large)] * (2 if large else 0)
    if pa.types.is_boolean(kind):
        return large
    if pa.types.is_integer(kind):
        bits = kind.bit_width - pa.types.is_signed_integer(kind)
        return (1 << bits) - 1 if large else 0
    if pa.types.is_floating(kind):
        return 0.5 if large else 0.0
    if pa.types.is_timestamp(kind):
        return datetime(2026, 11, 27, tzinfo=UTC) if large else datetime(1970, 1, 1, tzinfo=UTC)
    return "ü\n\x7f" * 9 if large else ""


@pytest.mark.parametrize("name", SCHEMAS)
def test_pandas_and_duckdb_read_the_parts(tmp_path: Path, name: str) -> None:
    """Every column that is declared, its least and its largest values, over two parts in their order."""
    schema = SCHEMAS[name]
    table = pa.table(
        [pa.array([sample(field.type, large) for large in (False, True, True)], field.type) for field in schema],
        schema=schema,
    )
    path = str(tmp_path / "made")
    with build(path, step=name, version=1, params={}) as work:
        work.write_parts(table, 2)
        work.publish(Ledger.of("rows", read=3, kept=3), rows=3, schema=schema)
    rows = table.to_pylist()
    assert pa.Table.from_pandas(pd.read_parquet(parts(path)), schema=schema).to_pylist() == rows
    relation = duckdb.sql(f"SELECT * FROM read_parquet('{path}/*.parquet')")
    assert relation.columns == schema.names
    assert relation.to_arrow_table().cast(schema).to_pylist() == rows
