#!/usr/bin/env bash
# What: pyarrow's ParquetFile reads a misspelt column as no column, where read_table refuses it; and "a.b" can mean two.
# Versions: pyarrow 25.0.1, Python 3.11.
# Expected: `columns=["txet"]` of a file without it raises, as `pyarrow.parquet.read_table` and datasets do.
# Seen: ParquetFile.read, read_row_group and iter_batches give a table of the right number of rows and without the column; with
#   all names unknown it has rows and no columns. Names are looked up among *paths*, so of a file with a struct `a` (field
#   `b`) and a column named "a.b", columns=["a.b"] gives both.
# Why it matters: ParquetFile is the way to go through a corpus by row group. A renamed column is noticed three steps later as a
#   KeyError of another module, or never: rows are counted, batches follow each other, and what is optional reads as absent.
# Here: cpt_ray.artifacts.parquet.read_table compares the names before it reads.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1
"$work/venv/bin/python" - "$work" <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__)
name = f"{sys.argv[1]}/corpus.parquet"
pq.write_table(pa.table({"id": [17, 18], "text": ["parse a date", "open a file"]}), name)
try:
    pq.read_table(name, columns=["id", "txet"])
    sys.exit("changed: read_table takes an unknown name")
except pa.ArrowInvalid as error:
    print("read_table:", str(error).splitlines()[0][:60])
with pq.ParquetFile(name) as file:
    read = file.read(columns=["id", "txet"])
    group = file.read_row_group(0, columns=["txet"])
    batches = list(file.iter_batches(columns=["txet"]))
print("ParquetFile.read(id, txet):", read.column_names, read.num_rows, "rows")
print("read_row_group(txet):", group.column_names, group.num_rows, "rows")
print("iter_batches(txet):", [(batch.schema.names, batch.num_rows) for batch in batches])
assert (read.column_names, read.num_rows) == (["id"], 2)
assert (group.column_names, group.num_rows) == ([], 2)
assert [(batch.schema.names, batch.num_rows) for batch in batches] == [([], 2)]

name = f"{sys.argv[1]}/dots.parquet"
pq.write_table(pa.table({"a": [{"b": 1}], "a.b": [7]}), name)
with pq.ParquetFile(name) as file:
    both = file.read(columns=["a.b"])
print("columns=['a.b'] of a file with a struct a and a column 'a.b':", both.to_pylist())
assert both.to_pylist() == [{"a": {"b": 1}, "a.b": 7}]
PYTHON
echo "as stated"
