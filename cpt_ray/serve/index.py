"""An index as a published artifact: parts of so many vectors, each with the rows they belong to and what its kind makes.

    part-00000/vectors.npy    (n, D) float16 or float32, as `serve/indexes` opens it
    part-00000/rows.arrow     n rows that describe them
    part-00000/...            what the kind adds

1. A part is pieces of the vectors' artifact, one after the other; which ones the driver tells from the files' footers.
2. A task makes a part from its pieces, one at a time, and finds the rows of each by key: where the artifact of vectors was
   made from this very source in the range that they are of, else in all of it.
3. The parts are opened as indexes of their own, mapped from disk, and searched as one (`serve/joined.py`).

So nobody holds all vectors, and how many tasks there were does not show. Which kinds there are: `serve/indexes`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import DIGEST, File, Manifest
from cpt_ray.artifacts.parquet import read_batches, read_schema, read_slice, shards_of, slices_of
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import part_name, parts, read_manifest
from cpt_ray.artifacts.store import read_table as read_artifact
from cpt_ray.errors import UserError
from cpt_ray.kinds import kinds
from cpt_ray.serve.embed import EMBED, shards_of_source
from cpt_ray.serve.following import STEP, indexes_at
from cpt_ray.serve.indexes import VECTORS, Index, Kind
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.serve.joined import join

INDEX = Stage(STEP, version=4, unit="vectors", reads=("key", "vector"))
ROWS = "rows.arrow"
PIECE = 1 << 16
"""Vectors that are read at a time, at most."""
EXACT = Exact()
MADE = pa.schema([("part", pa.int32()), ("rows", pa.int64()), ("files", pa.string()), ("measured", pa.string())])


def build_index(
    path: str, *, embeddings: str, source: str, key: str, columns: list[str], kind: Kind = EXACT
) -> Manifest:
    """Publish at the local folder `path` the vectors of the artifact `embeddings`, in its order, beside them the `columns`
    of the rows of `source` that they belong to (`key` is the column of `source` they are found by), and what else `kind`
    makes of them.

    The manifest's `extra` names the model by its digest, and says the kind of index. UserError for a column that the
    source lacks, a vector without a row, or one that is not finite."""
    columns = list(dict.fromkeys([key, *columns]))
    check_columns(source, columns)
    inputs = {"embeddings": read_manifest(embeddings), "source": read_manifest(source)}
    params = {"key": key, "columns": columns, "index": kind.result()}
    with INDEX.build(path, params=params, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        if not inputs["embeddings"].rows:
            raise UserError(
                "there are no vectors to index", where=embeddings, fix="look at the ledger of the embeddings"
            )
        pieces = _pieces(embeddings, _ranges(embeddings, source), kind.rows_per_part)
        told = os.path.join(work.scratch, "parts")
        made = PART.map(
            told,
            params=params,
            inputs=dict(inputs),
            shards=[{"part": number, "pieces": piece} for number, piece in enumerate(pieces)],
            folder=os.path.abspath(work.path),
            source=source,
            columns=columns,
            kind=kind,
        )
        table = read_artifact(told).to_pylist()
        files = [File.model_validate(file) for part in table for file in json.loads(part["files"])]
        measured = _mean([json.loads(part["measured"]) for part in table], [part["rows"] for part in table])
        extra: dict[str, Any] = {"index": kind.model_dump(mode="json")}
        extra |= {"measured": measured} if measured else {}
        extra |= {"model": inputs["embeddings"].inputs["model"]} if "model" in inputs["embeddings"].inputs else {}
        extra |= {name: value for name, value in inputs["embeddings"].params.items() if name == "precision"}
        schema = pa.schema([read_schema(parts(source)[0]).field(name) for name in columns])
        return work.publish(made.balance, rows=made.balance.kept, schema=schema, extra=extra, files=files)


def check_columns(source: str, columns: Sequence[str]) -> None:
    """UserError unless the artifact `source` has all of `columns`."""
    there = read_manifest(source).columns
    if there and (missing := [name for name in columns if name not in there]):
        named = ", ".join(map(repr, missing))
        raise UserError(f"no column {named} in {source}", where="columns", fix=f"of these: {', '.join(there)}")


def read_index(place: str) -> Index:
    """Open a published index, or those of a folder as one (serve/following.py), as their manifests say. UserError for a kind
    that is not here, for a file that is gone, for an index of an earlier version, and for vectors of several models."""
    return join([_read(path) for path in indexes_at(place)])


def _read(path: str) -> Index:
    manifest = read_manifest(path)
    known = kinds("cpt_ray.serve.indexes")
    again = "make it again with `cpt-ray embed`"
    chosen = manifest.extra.get("index", {})
    folders = list(dict.fromkeys(os.path.dirname(file.path) for file in manifest.files if os.path.dirname(file.path)))
    if not folders:
        raise UserError("the index is of an earlier version of cpt-ray", where=path, fix=again)
    for file in manifest.files:
        if not os.path.isfile(name := os.path.join(path, file.place)) or os.path.getsize(name) != file.size:
            raise UserError("a file of the index is gone, or is not whole", where=name, fix=f"remove {path}; {again}")
    try:
        kind = cast(Kind, known[chosen["kind"]].model_validate(chosen))
    except (KeyError, ValidationError):
        raise UserError(
            f"the index is of a kind that is not here: {chosen}",
            where=path,
            fix=f"of these: {', '.join(known)}; {again}",
        ) from None
    model = manifest.extra.get("model", "")
    return join([kind.open(at, _mapped(at), model) for at in (os.path.join(path, folder) for folder in folders)])


def _ranges(embeddings: str, source: str) -> list[dict[str, Any] | None]:
    """Of each part of the vectors the range of `source` that they are of, None where nothing says so."""
    made, count = read_manifest(embeddings), len(parts(embeddings))
    if made.step == EMBED.name and made.inputs.get("source") == read_manifest(source).digest:
        ranges = shards_of_source(source, made.params["rows_per_shard"])
        if len(ranges) == count:
            return [*ranges]
    return [None] * count


def _pieces(embeddings: str, ranges: Sequence[Any], rows: int) -> list[list[dict[str, Any]]]:
    """The vectors in order, in pieces of at most PIECE, and in parts of `rows`, but for the last."""
    found: list[list[dict[str, Any]]] = [[]]
    room = rows
    for name, near in zip(parts(embeddings), ranges, strict=True):
        for piece in slices_of([name], PIECE):
            while piece["rows"]:
                taken = min(piece["rows"], room)
                found[-1].append({**piece, "rows": taken, "near": near})
                piece = {**piece, "start": piece["start"] + taken, "rows": piece["rows"] - taken}
                room -= taken
                if not room:
                    found.append([])
                    room = rows
    return [part for part in found if part]


def _part(
    shard: Mapping[str, Any], *, folder: str, source: str, columns: Sequence[str], kind: Kind
) -> tuple[pa.Table, Ledger]:
    """Write a part below `folder`, and say which files it has."""
    name, pieces = part_name(shard["part"]), shard["pieces"]
    at = os.path.join(folder, name)
    shutil.rmtree(at, ignore_errors=True)  # what a killed attempt left
    os.makedirs(at)
    count = sum(piece["rows"] for piece in pieces)
    value = read_schema(pieces[0]["part"]).field("vector").type
    schema = pa.schema([read_schema(parts(source)[0]).field(column) for column in columns])
    header = {"descr": value.value_type.to_pandas_dtype()().dtype.str, "fortran_order": False}
    with (
        open(os.path.join(at, VECTORS), "wb") as matrix,
        pa.OSFile(os.path.join(at, ROWS), "wb") as sink,
        pa.ipc.new_file(sink, schema) as rows,
    ):
        np.lib.format.write_array_header_1_0(matrix, {**header, "shape": (count, value.list_size)})
        for piece in pieces:
            table = read_slice(piece, ["key", "vector"])
            vectors = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            if not np.isfinite(vectors).all():
                raise UserError(
                    "a vector is not finite", where=piece["part"], fix="look for NaN in the model's weights"
                )
            vectors.tofile(matrix)
            described = _described(table["key"], source, piece["near"], columns)
            rows.write_table(described.cast(schema).combine_chunks())
    measured = kind.build(at)
    files = [_file(folder, f"{name}/{each}").model_dump() for each in sorted(os.listdir(at))]
    row = {"part": shard["part"], "rows": count, "files": json.dumps(files), "measured": json.dumps(measured)}
    return pa.Table.from_pylist([row], schema=MADE), Ledger.of("vectors", read=count, kept=count)


PART = Stage("index-parts", version=1, gives=MADE, unit="vectors", run=_part)


def _described(keys: pa.ChunkedArray, source: str, near: Mapping[str, Any] | None, columns: Sequence[str]) -> pa.Table:
    """The row of `source` for each of `keys`, of which the column is the first of `columns`: the first that has it."""
    own: Iterable[pa.Table] = [] if near is None else [read_slice(near, columns)]
    found, left = [], keys
    for table in itertools.chain(own, _batches(source, columns)):
        these = table.filter(pc.is_in(table[columns[0]].cast(pa.string()), value_set=left))
        found.append(these)
        left = left.filter(pc.invert(pc.is_in(left, value_set=these[columns[0]].cast(pa.string()))))
        if not len(left):
            break
    if len(left):
        raise UserError(f"{len(left)} vectors have no row in the source", where=source, fix="embed this source again")
    rows = pa.concat_tables(found)
    return rows.take(pc.index_in(keys, value_set=rows[columns[0]].cast(pa.string())))


def _batches(source: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    for shard in shards_of(parts(source)):
        yield from read_batches(shard, columns)


def _file(folder: str, path: str) -> File:
    name = os.path.join(folder, path)
    with open(name, "rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()[:DIGEST]
    return File(path=path, size=os.path.getsize(name), digest=digest)


def _mean(measured: Sequence[Mapping[str, float] | None], rows: Sequence[int]) -> dict[str, float]:
    """Of what the parts measured: sums of whole numbers, and means of the others, each part by its rows."""
    found: dict[str, float] = {}
    for name in measured[0] or ():
        values = [part[name] for part in measured if part]
        whole = all(isinstance(value, int) for value in values)
        found[name] = sum(values) if whole else round(float(np.average(values, weights=rows)), 4)
    return found


def _mapped(folder: str) -> pa.Table:
    """The rows of a part, read from disk as they are needed."""
    with pa.ipc.open_file(pa.memory_map(os.path.join(folder, ROWS))) as file:
        return file.read_all()
