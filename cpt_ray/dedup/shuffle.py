"""The shuffle, for corpora whose band keys do not fit one node: only (band, key, node) moves, never text.

1. A task per part of the signatures writes the keys of its documents, a column per band.
2. A task per band and per share of the keys reads that one column of every part, keeps the keys of its share, and
   writes the buckets of at least two documents.

Both are artifacts whose tasks Ray Data runs, so they resume part by part; a bucket lies whole in one task's share,
whatever the number of workers. Singletons, nearly everything, never reach the driver.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts
from cpt_ray.dedup import bands, candidates, signatures
from cpt_ray.dedup.kernels import I64
from cpt_ray.dedup.options import DedupOptions

KEYS_PER_TASK = 100_000_000
"""Keys that one task of the second step sorts in memory: 1.6 GB with the nodes and the order."""

BUCKETS = pa.schema([pa.field("group", pa.int64()), pa.field("node", pa.int64())])


def bucket_artifacts(
    phases: str,
    names: Sequence[str],
    nodes_of: Sequence[I64],
    inputs: Mapping[str, str | Manifest],
    options: DedupOptions,
) -> list[candidates.Buckets]:
    """The buckets of all bands; nodes_of[i][row] is the node of a row of part i of the signatures, -1 for none."""
    count, rows = bands.shape(options)
    folder = posixpath.join(phases, "nodes")
    fs, target = fsspec.core.url_to_fs(folder)
    fs.makedirs(target, exist_ok=True)
    shards, total = [], 0
    for i, (name, nodes) in enumerate(zip(names, nodes_of, strict=True)):
        mapped = posixpath.join(folder, f"nodes-{i:05d}.parquet")
        parquet.write_table(mapped, pa.table({"node": pa.array(nodes)}))
        shards.append({"signatures": name, "nodes": mapped})
        total += int(np.count_nonzero(nodes >= 0))
    keys = KEYS.map(
        posixpath.join(phases, "keys"),
        params={"bands": count, "rows": rows},
        inputs=inputs,
        shards=shards,
        gives=_keys_schema(count),
        bands=count,
        rows=rows,
    )
    shares = -(-total // KEYS_PER_TASK)
    path = posixpath.join(phases, "buckets")
    GROUP.map(
        path,
        params={"shares": shares},
        inputs={"keys": keys},
        shards=[{"band": band, "share": share} for band in range(count) for share in range(shares)],
        files=parts(posixpath.join(phases, "keys")),
        shares=shares,
    )
    tables = [parquet.read_table(name) for name in parts(path)]
    return [candidates.Buckets(np.asarray(t["group"]), np.asarray(t["node"])) for t in tables]


def _keys_schema(count: int) -> pa.Schema:
    return pa.schema([pa.field("node", pa.int64()), *(pa.field(f"band_{b:03d}", pa.uint64()) for b in range(count))])


def _keys_shard(shard: Mapping[str, Any], *, bands: int, rows: int) -> tuple[pa.Table, Ledger]:
    from cpt_ray.dedup.bands import band_keys

    nodes = np.asarray(parquet.read_table(shard["nodes"])["node"])
    matrix = signatures.signature_matrix(parquet.read_table(shard["signatures"], ["signature"])["signature"])
    keys = band_keys(matrix[nodes >= 0], bands, rows)
    columns = [pa.array(nodes[nodes >= 0]), *(pa.array(np.ascontiguousarray(keys[:, b])) for b in range(bands))]
    ledger = Ledger.of(
        "documents", read=len(nodes), kept=len(keys), dropped={"equal_content_or_no_words": len(nodes) - len(keys)}
    )
    return pa.table(columns, schema=_keys_schema(bands)), ledger


def _bucket_shard(shard: Mapping[str, Any], *, files: Sequence[str], shares: int) -> tuple[pa.Table, Ledger]:
    name = f"band_{shard['band']:03d}"
    found_keys, found_nodes = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for file in files:
        table = parquet.read_table(file, [name, "node"])
        keys, nodes = np.asarray(table[name]), np.asarray(table["node"])
        mine = keys % np.uint64(shares) == np.uint64(shard["share"])
        found_keys.append(keys[mine])
        found_nodes.append(nodes[mine])
    keys = np.concatenate(found_keys)
    made = candidates.group(keys, np.concatenate(found_nodes))
    ledger = Ledger.of(
        "keys", read=len(keys), kept=len(made.slot), dropped={"alone_in_its_bucket": len(keys) - len(made.slot)}
    )
    return pa.table([pa.array(made.group), pa.array(made.slot)], schema=BUCKETS), ledger


KEYS = Stage("band-keys", version=1, unit="documents", run=_keys_shard)
GROUP = Stage("buckets", version=1, gives=BUCKETS, unit="keys", run=_bucket_shard)
