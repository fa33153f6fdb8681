"""An index in parts at 1, 4 and 16 times one number of vectors: seconds and peak memory of building and searching it. Run as
`make bench-index` (`--sizes 1 4` for a part of it; `--rows 100000` of the size 1; `--kind hnsw`).

Vectors are those of `ann.py`. Memory is that of a process's own pages, and in brackets with those of files that it has
mapped, which the kernel takes back when it needs them. Each size is built, and searched, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from ann import WIDTH, unit
from processes import in_own_process, watched
from rich.console import Console
from rich.table import Table

from cpt_ray.artifacts import Ledger, build, read_manifest
from cpt_ray.artifacts.store import part_name
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.evaluate.report import machine
from cpt_ray.serve.index import build_index, read_index
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.serve.indexes.hnsw import Hnsw

RESULT = Path(__file__).parent / "results" / "index.json"
ROWS_PER_SHARD, ROWS_PER_PART = 8192, 50_000
"""As `embed` has them, and of a part of the source."""


def write_inputs(rows: int, folder: str) -> None:
    """A source, and its vectors as `embed` publishes them."""
    with build(f"{folder}/source", step="source", version=1, params={}) as work:
        for number, start in enumerate(range(0, rows, ROWS_PER_PART)):
            names = [f"f{i}" for i in range(start, min(start + ROWS_PER_PART, rows))]
            paths = [f"package/of/some/{name}/module.py" for name in names]
            table = pa.table({"id": names, "path": paths, "summary": ["Says in one line what it does."] * len(names)})
            work.write(f"{part_name(number)}.parquet", table)
        work.publish(Ledger.of("rows", read=rows, kept=rows), rows=rows, schema=table.schema)
    source, number = read_manifest(f"{folder}/source"), 0
    params, inputs = {"rows_per_shard": ROWS_PER_SHARD}, {"source": source, "model": "benchmark"}
    with build(f"{folder}/embeddings", step="embeddings", version=1, params=params, inputs=inputs) as work:
        for start in range(0, rows, ROWS_PER_PART):
            vectors = unit(min(ROWS_PER_PART, rows - start), start + 1)
            for at in range(0, len(vectors), ROWS_PER_SHARD):
                some = vectors[at : at + ROWS_PER_SHARD]
                keys = [f"f{i}" for i in range(start + at, start + at + len(some))]
                listed = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), WIDTH)
                work.write(f"{part_name(number)}.parquet", pa.table({"key": keys, "vector": listed}))
                number += 1
        work.publish(Ledger.of("vectors", read=rows, kept=rows), rows=rows)


@contextmanager
def used() -> Iterator[dict[str, list[float]]]:
    """MB that the driver and the largest worker had at most: of their own, and with what they have mapped of files."""
    found = {"driver": [0.0, 0.0], "worker": [0.0, 0.0]}

    def look(process: psutil.Process, who: str) -> None:
        if who:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            held = {line.split()[0]: int(line.split()[1]) / 1e3 for line in lines if line.startswith("Rss")}
            # One that has ended and is not collected yet holds nothing, and has no such lines.
            now = (held.get("RssAnon:", 0.0), sum(held.values()))
            found[who] = [max(a, b) for a, b in zip(found[who], now, strict=True)]

    with watched(look, 0.25):
        yield found


def built(folder: str, kind: Any, cpus: int) -> dict[str, Any]:
    with connect(ClusterOptions(cpus=cpus)), used() as memory:
        started = time.perf_counter()
        made = build_index(
            f"{folder}/index",
            embeddings=f"{folder}/embeddings",
            source=f"{folder}/source",
            key="id",
            columns=["path", "summary"],
            kind=kind,
        )
        return {"build s": time.perf_counter() - started, **memory, "measured": made.extra.get("measured")}


def searched(folder: str) -> dict[str, Any]:
    with used() as memory:
        index, queries = read_index(f"{folder}/index"), unit(256, 2**31)
        started = time.perf_counter()
        _, rows = index.search(queries, 10)
        took = time.perf_counter() - started
        assert index.rows.slice(int(rows[0, 0]), 1)["id"][0].as_py() == f"f{rows[0, 0]}"
        time.sleep(0.5)
    return {"256 queries s": took, "searcher": memory["driver"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--kind", choices=["exact", "hnsw"], default="exact")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        what, folder = given.one
        kind = Hnsw() if given.kind == "hnsw" else Exact()
        print(json.dumps(built(folder, kind, given.cpus) if what == "build" else searched(folder)))
        return
    rows: dict[str, dict[str, Any]] = {}
    table = Table("vectors", "build s", "driver MB", "worker MB", "256 queries s", "searcher MB", box=None)
    for size in sorted(given.sizes):
        count = size * given.rows
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            write_inputs(count, folder)
            shared = ["--kind", given.kind, "--cpus", str(given.cpus)]
            alone = (sys.executable, __file__, *shared, "--one")
            row = in_own_process(*alone, "build", folder) | in_own_process(*alone, "search", folder)
        rows[f"{count}"] = row
        held = [f"{row[who][0]:,.0f} ({row[who][1]:,.0f})" for who in ("driver", "worker", "searcher")]
        table.add_row(f"{count:,}", f"{row['build s']:.1f}", *held[:2], f"{row['256 queries s']:.2f}", held[2])
        print(count, row, flush=True)
    Console(width=120).print(f"{given.kind}, {WIDTH} dimensions, {given.cpus} workers", table)
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    kept[given.kind] = {"machine": machine(), "sizes": rows, "dimensions": WIDTH, "numpy": np.__version__}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
