"""An exchange: rows go to buckets by their key, and a pure function then sees one bucket, sorted.

1. `send` is a map over shards. Each shard's rows are put in the order of their buckets and written to one spill file,
   a record batch a bucket (Arrow IPC, where a batch is read without those before it).
2. `receive` gives a bucket: its batch of every file, sorted by columns that tell all rows apart, so that neither the
   order of the input nor how it is cut into shards nor the number of workers shows.

A task holds one shard or one bucket; the driver only their numbers. Sending resumes by shard, and what reads buckets is
itself a map over them, which resumes by bucket. Which rows share a bucket is a hash or a range of their key. A key that
half of the corpus has would make one bucket of half the corpus: senders therefore send *distinct* keys (a shard counts,
or takes the first of, its own rows before), so that a bucket holds at most one row of a key per shard.
"""

from __future__ import annotations

import bisect
import itertools
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest, digests_of, fingerprint
from cpt_ray.artifacts.places import locate, remove, write
from cpt_ray.artifacts.shards import Shard
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import part_name
from cpt_ray.errors import UserError

BUCKET_ROWS = 1 << 20
"""Rows without text that a bucket is to hold, by the key's hash about evenly: 100 MB at 100 bytes a row."""
SENT = pa.schema([("bucket", pa.int32()), ("rows", pa.int64())])
Route = Callable[[pa.Table], np.ndarray]
"""A table to the bucket of each row, int64; picklable."""


@dataclass(frozen=True)
class Sent:
    """Rows on their way: `files` spill files in `folder`."""

    folder: str
    files: int
    buckets: int
    schema: pa.Schema


def buckets_for(rows: int, of: int | None = None) -> int:
    """How many buckets of `of` rows (BUCKET_ROWS) hold `rows` in all; a function of the content alone."""
    return max(1, -(-rows // (of or BUCKET_ROWS)))


def by_hash(table: pa.Table, *, columns: Sequence[str], buckets: int) -> np.ndarray:
    """xxh3_64 of the values of `columns`."""
    values = zip(*(table[name].to_pylist() for name in columns), strict=True)
    hashes = (xxhash.xxh3_64_intdigest("\0".join(map(str, key)).encode()) % buckets for key in values)
    return np.fromiter(hashes, np.int64, table.num_rows)


def by_range(table: pa.Table, *, column: str, buckets: int) -> np.ndarray:
    """Equal ranges of a column of u64 hashes, or lower-case hexadecimal ones: bucket after bucket is the column's order."""
    hashes = table[column]
    if pa.types.is_uint64(hashes.type):
        return in_range(hashes.to_numpy(), buckets)
    starts = (int(value[:8], 16) << 32 for value in hashes.to_pylist())
    return in_range(np.fromiter(starts, np.uint64, table.num_rows), buckets)


def in_range(hashes: np.ndarray, buckets: int) -> np.ndarray:
    """Which of equal ranges of u64 each hash is in, int64, by its upper half."""
    return ((hashes >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)


def by_number(table: pa.Table, *, column: str) -> np.ndarray:
    """The column says it itself."""
    return table[column].to_numpy().astype(np.int64)


def send(
    path: str,
    stage: Stage,
    *,
    shards: Sequence[Shard],
    buckets: int,
    to: Route,
    params: Mapping[str, Any],
    inputs: Mapping[str, str | Manifest],
    **arguments: Any,
) -> tuple[Sent, Manifest]:
    """Send what the map stage gives for every shard to the buckets that `to` names.

    How many rows of each shard went where is an artifact at `path`, the rows themselves lie beside it.
    """
    if stage.run is None or stage.gives is None:
        raise TypeError(f"{stage.name} is no map stage of declared columns")
    params = {**params, "buckets": buckets}
    folder = f"{path}.rows-{fingerprint([stage.name, stage.version, params, digests_of(inputs)])[:16]}"
    _clear_others(folder)
    run = partial(_send_shard, run=partial(stage.run, **arguments), schema=stage.gives, folder=folder, to=to)
    manifest = replace(stage, gives=SENT, run=run).map(
        path,
        shards=[{"number": number, "shard": shard} for number, shard in enumerate(shards)],
        params=params,
        inputs=inputs,
    )
    return Sent(folder, len(shards), buckets, stage.gives), manifest


def receive(sent: Sent, bucket: int, order: Sequence[str] = ()) -> pa.Table:
    """All rows of a bucket, sorted by the columns `order`; without any, shard after shard."""
    batches = []
    for number in range(sent.files):
        name = _spill(sent.folder, number)
        fs, target = locate(name)
        if not fs.exists(target):
            phases = posixpath.dirname(sent.folder)
            raise UserError("the rows on their way are gone", where=name, fix=f"remove {phases} and run again")
        with fs.open(target, "rb") as source, pa.ipc.open_file(source) as file:
            there = json.loads(file.schema.metadata[b"buckets"])
            at = bisect.bisect_left(there, bucket)
            if at < len(there) and there[at] == bucket:
                batches.append(file.get_batch(at).replace_schema_metadata(None))
    table = pa.Table.from_batches(batches, sent.schema)
    return table.sort_by([(name, "ascending") for name in order]) if order else table


def _send_shard(
    shard: Mapping[str, Any], *, run: Callable[..., tuple[pa.Table, Ledger]], schema: pa.Schema, folder: str, to: Route
) -> tuple[pa.Table, Ledger]:
    table, ledger = run(shard["shard"])
    if table.schema.remove_metadata() != schema:
        raise TypeError(f"not the declared columns:\n{table.schema}\n-- declared:\n{schema}")
    bucket = to(table)
    order = np.argsort(bucket, kind="stable")
    there, starts = np.unique(bucket[order], return_index=True)
    edges = [*starts, len(order)]
    table = table.take(pa.array(order)).combine_chunks()
    marked = schema.with_metadata({"buckets": json.dumps(there.tolist())})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, marked, options=options) as writer:
        for start, end in itertools.pairwise(edges):
            rows = table.slice(start, end - start).combine_chunks().to_batches()
            writer.write_batch(rows[0].replace_schema_metadata(marked.metadata))
    fs, target = locate(_spill(folder, shard["number"]))
    fs.makedirs(posixpath.dirname(target), exist_ok=True)
    # Before the shard is said to be done.
    write(fs, target, sink.getvalue().to_pybytes())
    counts = pa.table([pa.array(there, pa.int32()), pa.array(np.diff(edges), pa.int64())], schema=SENT)
    return counts, ledger


def _clear_others(folder: str) -> None:
    """Remove what was sent to the same place by a run of other options or another input."""
    fs, target = locate(folder)
    stem = target.rpartition("-")[0] + "-"
    beside = fs.ls(posixpath.dirname(target), detail=False) if fs.exists(posixpath.dirname(target)) else []
    for name in beside:
        if name.startswith(stem) and name != target:
            remove(fs, name)


def _spill(folder: str, number: int) -> str:
    return posixpath.join(folder, f"{part_name(number)}.arrow")
