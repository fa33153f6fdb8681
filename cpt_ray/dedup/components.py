"""Connected components of the accepted pairs: scipy on one node, label propagation over tables beyond it."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cpt_ray.dedup.kernels import I64

SCIPY_EDGES = 100_000_000
"""Up to this many edges scipy needs about 5 GB; beyond it labels are propagated (60M edges: 23 s, 3.1 GB)."""


def components(nodes: int, left: I64, right: I64) -> I64:
    """[nodes] int64: the smallest node of every node's component."""
    if len(left) > SCIPY_EDGES:
        return propagate(nodes, left, right)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
    count, labels = connected_components(graph, directed=False)
    first = np.full(count, nodes, np.int64)
    np.minimum.at(first, labels, np.arange(nodes, dtype=np.int64))
    return first[labels]


def propagate(nodes: int, left: I64, right: I64, block: int = 50_000_000) -> I64:
    """The same answer by hooking and pointer jumping (Shiloach and Vishkin 1982), a block of edges at a time."""
    label = np.arange(nodes, dtype=np.int64)
    changed = True
    while changed:
        changed = False
        for start in range(0, len(left), block):
            a, b = label[left[start : start + block]], label[right[start : start + block]]
            apart = a != b
            if not apart.any():
                continue
            changed = True
            a, b = a[apart], b[apart]
            np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(jumped := label[label], label):
            label = jumped
    return label
