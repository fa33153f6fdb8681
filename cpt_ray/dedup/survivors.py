"""Which duplicate stays: one total order over all documents, the same whatever their order in the input."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.dedup.kernels import I64
from cpt_ray.dedup.options import DedupOptions

PREFIX = "by_"
"""The signatures carry the columns of the rule under their name with this in front."""


def has_order(kind: pa.DataType) -> bool:
    """Whether a column of this type can be one of the rule. Arrow has no list of those that it sorts: it is asked."""
    try:
        pc.sort_indices(
            pa.table({"one": pa.nulls(2, kind), "two": [0, 0]}), [("one", "ascending"), ("two", "ascending")]
        )
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return True


def best_first(documents: pa.Table, options: DedupOptions) -> I64:
    """[rows] int64: row numbers, the most worthy of being kept first.

    `documents` has `by_<column>` for every column of the rule, content_0, content_1 (uint64) and doc_id. A missing
    value, or one that is no number (NaN), loses against any other.
    """
    keys = [(f"{PREFIX}{p.column}", "descending" if p.prefer == "high" else "ascending") for p in options.survivors]
    last = [("content_0", "ascending"), ("content_1", "ascending"), ("doc_id", "ascending")]
    # Nulls and NaN sort last in both directions, which is what "a missing value loses" needs.
    return np.asarray(pc.sort_indices(documents, sort_keys=[*keys, *last])).astype(np.int64)
