"""The shuffle, for corpora whose band keys do not fit one node: only (band, key, node) moves, never text.

1. A task per part of the signatures sends the keys of its documents to the share of their band that they fall into.
2. A task per band and share reads its own keys, and writes the buckets of at least two documents.

It is an exchange (`artifacts.exchange`), so it resumes part by part; a bucket lies whole in one task's share, whatever the
number of workers. Singletons, nearly everything, never reach the driver.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts
from cpt_ray.artifacts.exchange import Sent, buckets_for, receive, send
from cpt_ray.artifacts.places import locate
from cpt_ray.dedup import bands, candidates, signatures
from cpt_ray.dedup.kernels import I64
from cpt_ray.dedup.options import DedupOptions

KEYS_PER_TASK = 100_000_000
"""Keys that one task of the second step sorts in memory: 1.6 GB with the nodes, and as much again for the order."""

BAND_KEYS = pa.schema([pa.field("band", pa.int16()), pa.field("key", pa.uint64()), pa.field("node", pa.int64())])
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
    fs, target = locate(folder)
    fs.makedirs(target, exist_ok=True)
    shards, total = [], 0
    for i, (name, nodes) in enumerate(zip(names, nodes_of, strict=True)):
        mapped = posixpath.join(folder, f"nodes-{i:05d}.parquet")
        parquet.write_table(mapped, pa.table({"node": pa.array(nodes)}))
        shards.append({"signatures": name, "nodes": mapped})
        total += int(np.count_nonzero(nodes >= 0))
    shares = buckets_for(total, KEYS_PER_TASK)
    sent, keys = send(
        posixpath.join(phases, "keys"),
        KEYS,
        shards=shards,
        buckets=count * shares,
        to=partial(_share, shares=shares),
        params={"bands": count, "rows": rows},
        inputs=inputs,
        bands=count,
        rows=rows,
    )
    path = posixpath.join(phases, "buckets")
    GROUP.map(
        path,
        params={"shares": shares},
        inputs={"keys": keys},
        shards=[{"bucket": bucket} for bucket in range(count * shares)],
        sent=sent,
    )
    tables = [parquet.read_table(name) for name in parts(path)]
    return [candidates.Buckets(np.asarray(t["group"]), np.asarray(t["node"])) for t in tables]


def _share(table: pa.Table, *, shares: int) -> I64:
    """The bands one after the other, each in so many shares."""
    share = np.asarray(table["key"]) % np.uint64(shares)
    return np.asarray(table["band"]).astype(np.int64) * shares + share.astype(np.int64)


def _keys_shard(shard: Mapping[str, Any], *, bands: int, rows: int) -> tuple[pa.Table, Ledger]:
    from cpt_ray.dedup.bands import band_keys

    nodes = np.asarray(parquet.read_table(shard["nodes"])["node"])
    matrix = signatures.signature_matrix(parquet.read_table(shard["signatures"], ["signature"])["signature"])
    keys = band_keys(matrix[nodes >= 0], bands, rows)
    columns = [
        pa.array(np.repeat(np.arange(bands, dtype=np.int16), len(keys))),
        pa.array(keys.T.ravel()),
        pa.array(np.tile(nodes[nodes >= 0], bands)),
    ]
    ledger = Ledger.of(
        "documents", read=len(nodes), kept=len(keys), dropped={"equal_content_or_no_words": len(nodes) - len(keys)}
    )
    return pa.table(columns, schema=BAND_KEYS), ledger


def _bucket_shard(shard: Mapping[str, Any], *, sent: Sent) -> tuple[pa.Table, Ledger]:
    table = receive(sent, shard["bucket"])
    made = candidates.group(np.asarray(table["key"]), np.asarray(table["node"]))
    alone = len(table) - len(made.slot)
    ledger = Ledger.of("keys", read=len(table), kept=len(made.slot), dropped={"alone_in_its_bucket": alone})
    return pa.table([pa.array(made.group), pa.array(made.slot)], schema=BUCKETS), ledger


KEYS = Stage("band-keys", version=2, gives=BAND_KEYS, unit="documents", run=_keys_shard)
GROUP = Stage("buckets", version=2, gives=BUCKETS, unit="keys", run=_bucket_shard)
