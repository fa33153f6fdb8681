#!/usr/bin/env bash
# What: usearch's dtype="i8" scales each vector to length 127 before it rounds. So an index with metric="ip" ranks by cosine as
#   soon as it is quantised, and vectors of length 1 use about a quarter of int8's range.
# Versions: usearch 2.26.6, numpy 2.4.6, Python 3.11.
# Expected: "ip" in i8 ranks by the inner product, a little coarser, as f16 and bf16 do; 8 bits are used as 8 bits.
# Seen: over vectors of different lengths, exact search in i8 finds a third of the ten largest inner products (bf16: 99 %) and
#   says nothing. Over vectors of length 1 in 256 dimensions the largest value stored is about 36 of 127, and exact search in i8
#   finds 89 % of the ten nearest; rounded by one factor for all vectors and added as int8, 98 %.
# Why it matters: int8 is what an index of embeddings is made smaller by. Maximum inner product search (models without
#   normalisation, popularity in the length) turns into another search without an error, and for normalised embeddings no
#   breadth of the graph brings back what the rounding has lost. Quantise yourself, and add and ask in int8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.4.6
cat > "$work/lengths.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
from usearch.index import Index

rng = np.random.default_rng(0)
rows, queries = (rng.standard_normal((n, 256)).astype(np.float32) for n in (2000, 100))
queries /= np.linalg.norm(queries, axis=1, keepdims=True)
unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
long = unit * rng.uniform(0.2, 5, (len(rows), 1)).astype(np.float32)


def nearest(vectors):
    return np.argsort(-(queries @ vectors.T), axis=1)[:, :10]


def found(vectors, asked, dtype):
    index = Index(ndim=256, metric="ip", dtype=dtype)
    index.add(np.arange(len(vectors)), vectors)
    return index.search(asked, 10, exact=True).keys, index


def share(got, want):
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(got, want)]))


def whole(vectors, most):
    return np.rint(vectors * (127 / most)).astype(np.int8)


print("usearch", version("usearch"), "numpy", np.__version__)
for dtype in ("f32", "f16", "bf16", "i8"):
    keys, _ = found(long, queries, dtype)
    by_product, by_cosine = share(keys, nearest(long)), share(keys, nearest(unit))
    print(f"lengths differ, ip in {dtype}: {by_product:.3f} of the largest products, {by_cosine:.3f} of the largest cosines")
    assert (by_product > 0.95) == (dtype != "i8"), by_product
assert by_product < 0.5 < 0.8 < by_cosine
keys, index = found(unit, queries, "i8")
theirs, largest = share(keys, nearest(unit)), int(np.abs(index.get(np.arange(2000), dtype="i8")).max())
asked = whole(queries, np.abs(queries).max(axis=1, keepdims=True))
ours = share(found(whole(unit, np.abs(unit).max()), asked, "i8")[0], nearest(unit))
print(f"length 1, i8 by usearch: {theirs:.3f} of the nearest, largest stored value {largest} of 127")
print(f"length 1, rounded by one factor before: {ours:.3f} of the nearest")
assert largest < 64
assert theirs < 0.92 < 0.97 < ours
PYTHON
"$work/venv/bin/python" "$work/lengths.py"
echo "as stated: int8 ranks by cosine, and uses a part of its range"
