#!/usr/bin/env bash
# What: pyarrow sorts a dictionary array, but neither a chunked one nor a table by it; an empty table it sorts without a word.
# Versions: pyarrow 25.0.1, Python 3.11.
# Expected: `sort_indices` of an array and of the same array as a column are one thing, or the column is refused by its type.
# Seen: Array: sorted by the values. ChunkedArray and a table with it as the only key: ArrowNotImplementedError. A table with two
#   keys: ArrowTypeError, which is no subclass of it. A table without rows: sorted, whatever the type of its keys. Float16 and
#   lists behave as dictionaries do, but for the array.
# Why it matters: a categorical column of pandas or polars comes out of Parquet as a dictionary (hosts, licences, languages), so
#   the same step sorts one file and fails on another, and a check by an empty table of the schema, which costs nothing, passes
#   what fails on the first row. Two rows of nulls of the type tell it: pa.table({"key": pa.nulls(2, kind), "then": [0, 0]}).
# Here: cpt_ray.dedup.survivors.has_order asks so, before a corpus is read.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1
"$work/venv/bin/python" - <<'PYTHON'
import pyarrow as pa
import pyarrow.compute as pc

print("pyarrow", pa.__version__)
hosts = pa.array(["b.example", "a.example", "b.example"]).dictionary_encode()
table = pa.table({"host": hosts, "row": [0, 1, 2]})
ONE, TWO = [("host", "ascending")], [("host", "ascending"), ("row", "ascending")]


def outcome(name, sort):
    try:
        said = sort().to_pylist()
    except Exception as error:
        said = type(error).__name__
    print(f"{name}: {said}")
    return said


assert outcome("Array", lambda: pc.sort_indices(hosts)) == [1, 0, 2]
assert outcome("ChunkedArray", lambda: pc.sort_indices(pa.chunked_array([hosts]))) == "ArrowNotImplementedError"
assert outcome("table, one key", lambda: pc.sort_indices(table, sort_keys=ONE)) == "ArrowNotImplementedError"
assert outcome("table, two keys", lambda: pc.sort_indices(table, sort_keys=TWO)) == "ArrowTypeError"
assert outcome("table without rows, two keys", lambda: pc.sort_indices(table.slice(0, 0), sort_keys=TWO)) == []
nulls = pa.table({"host": pa.nulls(2, hosts.type), "row": [0, 0]})
assert outcome("two rows of nulls, two keys", lambda: pc.sort_indices(nulls, sort_keys=TWO)) == "ArrowTypeError"
assert not issubclass(pa.ArrowTypeError, pa.ArrowNotImplementedError)
for kind in (pa.list_(pa.int64()), pa.float16()):
    empty = pa.table({"host": pa.nulls(0, kind), "row": pa.nulls(0, pa.int64())})
    full = pa.table({"host": pa.nulls(2, kind), "row": [0, 0]})
    assert outcome(f"{kind}, no rows", lambda: pc.sort_indices(empty, sort_keys=TWO)) == []
    assert outcome(f"{kind}, two rows", lambda: pc.sort_indices(full, sort_keys=TWO)) == "ArrowTypeError"
PYTHON
echo "as stated"
