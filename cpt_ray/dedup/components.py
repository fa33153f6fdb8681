"""Connected components of the accepted pairs: scipy on one node, label propagation by tasks beyond it.

Beyond SCIPY_EDGES the edges lie in Parquet parts. A round is an artifact, a task per part:

1. A task reads its edges, puts the present labels in the place of nodes, and reduces them to *stars*: every node tied to
   the smallest one that it reaches inside the part. Edges inside one component vanish.
2. The driver hooks every node to the smallest of its stars' centres, jumps pointers until labels are roots, and writes
   the labels of the nodes that moved for the next round, which reads the stars.

Rounds end when no edge is left. A node stays in them only while it is smaller than all its neighbours; these are then
hooked, so in the next round each of them has put it beside a smaller root, unless it is that root itself. So
n(t + 2) <= n(t) - n(t + 1) for the nodes left, and there are at most 1.45 log2(nodes) + 2 rounds, whatever the graph.
(Hooking and pointer jumping: Shiloach and Vishkin 1982; stars: Kiveris et al. 2014.)
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts
from cpt_ray.artifacts.places import locate
from cpt_ray.dedup.kernels import I64

SCIPY_EDGES = 100_000_000
"""Up to this many edges scipy needs about 5 GB; beyond it tasks propagate labels."""

EDGES_PER_PART = 4_000_000
"""Edges that one task holds: about 0.3 GB."""

STARS = pa.schema([pa.field("node", pa.int64()), pa.field("smaller", pa.int64())])


def components(nodes: int, left: I64, right: I64, path: str) -> I64:
    """[nodes] int64: the smallest node of every node's component; the rounds, if there are any, lie under `path`."""
    if len(left) > SCIPY_EDGES:
        return propagate(nodes, left, right, path)
    return on_one_node(nodes, left, right)


def on_one_node(nodes: int, left: I64, right: I64) -> I64:
    """The answer by scipy."""
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
    found, labels = connected_components(graph, directed=False)
    first = np.full(found, nodes, np.int64)
    np.minimum.at(first, labels, np.arange(nodes, dtype=np.int64))
    return first[labels]


def propagate(nodes: int, left: I64, right: I64, path: str) -> I64:
    """The same answer by rounds of tasks, each an artifact under `path`: a killed run goes on in the round it was in."""
    fs, folder = locate(path)
    fs.makedirs(folder, exist_ok=True)
    files, inputs = _write_edges(path, left, right)
    label, labels = np.arange(nodes, dtype=np.int64), ""
    for n in count():
        name = posixpath.join(path, f"round-{n:02d}")
        stars_of = REDUCE.map(
            name,
            params={"nodes": nodes},
            inputs=inputs,
            shards=[{"edges": file, "labels": labels} for file in files],
        )
        if not stars_of.rows:
            return label
        inputs["before"] = stars_of
        files, moved = parts(name), np.zeros(nodes, bool)
        for file in files:
            table = parquet.read_table(file)
            node, smaller = np.asarray(table["node"]), np.asarray(table["smaller"])
            moved[node] = True
            np.minimum.at(label, node, smaller)
        while not np.array_equal(jumped := label[label], label):
            label = jumped
        labels = posixpath.join(path, f"labels-{n:02d}.parquet")
        at = np.flatnonzero(moved)
        parquet.write_table(labels, pa.table([pa.array(at), pa.array(label[at])], schema=STARS))
    raise AssertionError("unreachable: rounds end")


def stars(left: I64, right: I64) -> tuple[I64, I64]:
    """(node, smaller): every node but the smallest of its component of these edges, tied to that one; by node."""
    nodes, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    label = on_one_node(len(nodes), places[: len(left)], places[len(left) :])
    tied = label != np.arange(len(nodes))
    return nodes[tied], nodes[label[tied]]


def _write_edges(path: str, left: I64, right: I64) -> tuple[list[str], dict[str, str | Manifest]]:
    """(Parquet parts of the edges, what identifies them)."""
    files, state = [], xxhash.xxh3_128()
    for n, start in enumerate(range(0, len(left), EDGES_PER_PART)):
        part = slice(start, start + EDGES_PER_PART)
        table = pa.table([pa.array(right[part]), pa.array(left[part])], schema=STARS)
        state.update(np.ascontiguousarray(left[part]).data)
        state.update(np.ascontiguousarray(right[part]).data)
        files.append(posixpath.join(path, f"edges-{n:05d}.parquet"))
        parquet.write_table(files[-1], table)
    return files, {"edges": f"{EDGES_PER_PART} a part: {state.hexdigest()}"}


def _stars_shard(shard: Mapping[str, Any]) -> tuple[pa.Table, Ledger]:
    edges = parquet.read_table(shard["edges"])
    left, right = np.asarray(edges["smaller"]), np.asarray(edges["node"])
    if shard["labels"]:
        labels = parquet.read_table(shard["labels"])
        moved, label = np.asarray(labels["node"]), np.asarray(labels["smaller"])
        left, right = _present(left, moved, label), _present(right, moved, label)
    apart = left != right
    node, smaller = stars(left[apart], right[apart])
    ledger = Ledger.of("edges", read=len(left), kept=len(node), dropped={"inside_a_component": len(left) - len(node)})
    return pa.table([pa.array(node), pa.array(smaller)], schema=STARS), ledger


REDUCE = Stage("components", version=1, gives=STARS, unit="edges", run=_stars_shard)


def _present(nodes: I64, moved: I64, label: I64) -> I64:
    """The labels of `nodes`: their own numbers but for those that moved (sorted)."""
    at = np.minimum(np.searchsorted(moved, nodes), len(moved) - 1)
    return np.where(moved[at] == nodes, label[at], nodes)
