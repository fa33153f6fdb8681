"""An index as a published artifact: the matrix of the vectors, the rows they belong to, and what its kind makes of them.

Which kinds there are, and what each is: `serve/indexes`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.parquet import read_table, write_table
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import parts, read_manifest
from cpt_ray.artifacts.store import read_table as read_artifact
from cpt_ray.errors import UserError
from cpt_ray.kinds import kinds
from cpt_ray.serve.indexes import VECTORS, Index, Kind
from cpt_ray.serve.indexes.exact import Exact

INDEX = Stage("index", version=3, unit="vectors", reads=("key", "vector"))
ROWS = "rows.parquet"
EXACT = Exact()


def build_index(
    path: str, *, embeddings: str, source: str, key: str, columns: list[str], kind: Kind = EXACT
) -> Manifest:
    """Publish at the local folder `path` the vectors of the artifact `embeddings` as one matrix, and beside them the
    `columns` of the rows of `source` that they belong to (`key` is the column of `source` they are found by), and what
    else `kind` makes of them.

    The manifest's `extra` names the model by its digest, and says the kind of index. UserError for a column that the
    source lacks."""
    check_columns(source, [key, *columns])
    inputs = {"embeddings": read_manifest(embeddings), "source": read_manifest(source)}
    with INDEX.build(path, params={"key": key, "columns": columns, "index": kind.result()}, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        count = inputs["embeddings"].rows
        first = pq.ParquetFile(parts(embeddings)[0]).schema_arrow.field("vector").type if count else None
        if first is None:
            raise UserError(
                "there are no vectors to index", where=embeddings, fix="look at the ledger of the embeddings"
            )
        shape, dtype = (count, first.list_size), first.value_type.to_pandas_dtype()
        matrix = np.lib.format.open_memmap(os.path.join(work.path, VECTORS), mode="w+", dtype=dtype, shape=shape)
        keys, start = [], 0
        for part in parts(embeddings):
            table = read_table(part)
            column = table.column("vector").combine_chunks()
            matrix[start : start + len(column)] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, shape[1])
            keys.append(table.column("key"))
            start += len(column)
            if not np.isfinite(matrix[start - len(column) : start]).all():
                raise UserError("a vector is not finite", where=part, fix="look for NaN in the model's weights")
        matrix.flush()
        described = read_artifact(source, list(dict.fromkeys([key, *columns])))
        found = pc.index_in(pa.chunked_array([chunk for each in keys for chunk in each.chunks]), described.column(key))
        if found.null_count:
            raise UserError(
                f"{found.null_count} vectors have no row in the source", where=source, fix="embed this source again"
            )
        rows = described.take(found)
        write_table(os.path.join(work.path, ROWS), rows)
        measured = kind.build(work.path)
        extra: dict[str, Any] = {"index": kind.model_dump(mode="json")}
        extra |= {"measured": measured} if measured else {}
        extra |= {"model": inputs["embeddings"].inputs["model"]} if "model" in inputs["embeddings"].inputs else {}
        extra |= {name: value for name, value in inputs["embeddings"].params.items() if name == "precision"}
        ledger = Ledger.of("vectors", read=count, kept=count)
        return work.publish(ledger, rows=count, schema=rows.schema, extra=extra)


def check_columns(source: str, columns: Sequence[str]) -> None:
    """UserError unless the artifact `source` has all of `columns`."""
    there = read_manifest(source).columns
    if there and (missing := [name for name in columns if name not in there]):
        named = ", ".join(map(repr, missing))
        raise UserError(f"no column {named} in {source}", where="columns", fix=f"of these: {', '.join(there)}")


def read_index(path: str) -> Index:
    """Open a published index as its manifest says; one that does not say its kind is exact. UserError for a kind that is
    not here."""
    extra = read_manifest(path).extra
    chosen = extra.get("index", {"kind": EXACT.kind})
    known = kinds("cpt_ray.serve.indexes")
    try:
        kind = cast(Kind, known[chosen["kind"]].model_validate(chosen))
    except (KeyError, ValidationError):
        raise UserError(
            f"the index is of a kind that is not here: {chosen}",
            where=path,
            fix=f"of these: {', '.join(known)}; make it again with `cpt-ray embed`",
        ) from None
    return kind.open(path, read_table(os.path.join(path, ROWS)), extra.get("model", ""))
