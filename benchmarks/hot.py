"""A hot group and a hot cluster, from documents to text pairs: seconds and peak memory. Run as `make bench-hot`
(`--documents 100000 1000000`; `--copies 100000`).

*group*: all documents are pages of one host and hold the same menu. *cluster*: so many copies of one text, of which every
second has two words of its own, among twice as many other documents of many hosts. Beside each stands the same number of
documents of many hosts, without copies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from scale import used

from cpt_ray.artifacts import Ledger, build
from cpt_ray.artifacts.store import part_name
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.dedup.clean import clean_documents
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.evaluate.report import machine
from cpt_ray.pairs.make import make_text_pairs
from cpt_ray.pairs.options import NeighbourOptions, SplitOptions

RESULT = Path(__file__).parent / "results" / "hot.json"
ROWS_PER_PART = 20_000
MENU = "Home and news of this place and about us"
DOCUMENTS = pa.schema(
    [
        *((name, pa.string()) for name in ("doc_id", "url", "host", "group", "title", "text")),
        ("quality", pa.float32()),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
        ("warc_file", pa.string()),
        ("warc_offset", pa.int64()),
    ]
)


def texts(count: int, copies: int) -> Iterator[str]:
    """Four paragraphs of three sentences out of 20,000; the first `copies` are one text, every second with words of its
    own."""
    chosen = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(chosen.choice(letters, chosen.integers(3, 9))) for _ in range(5_000)]
    said = [" ".join(words[i] for i in chosen.integers(0, 5_000, 15)).capitalize() + "." for _ in range(20_000)]
    hot = "\n\n".join(" ".join(said[i] for i in chosen.integers(0, 20_000, 3)) for _ in range(4))
    for number in range(count):
        if number < copies:
            yield hot if number % 2 else f"{hot}\n\n{words[number % 5_000]} {words[number // 5_000]}."
        else:
            yield "\n\n".join(" ".join(said[i] for i in three) for three in chosen.integers(0, 20_000, (4, 3)))


def write_documents(path: str, count: int, copies: int, hosts: int) -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    with build(path, step="documents", version=1, params={"count": count, "copies": copies, "hosts": hosts}) as work:
        made, start = texts(count, copies), 0
        while start < count:
            rows = []
            for number in range(start, min(start + ROWS_PER_PART, count)):
                host = f"h{number % hosts}.example"
                rows.append((f"d{number:08d}", f"https://{host}/{number}", host, host, f"Page {number}", next(made)))
            columns = [list(column) for column in zip(*rows, strict=True)]
            columns[5] = [f"{MENU}\n\n{text}" for text in columns[5]]
            many = len(rows)
            columns += [[0.5] * many, [at] * many, ["a.warc.gz"] * many, list(range(start, start + many))]
            work.write(f"{part_name(start // ROWS_PER_PART)}.parquet", pa.table(columns, schema=DOCUMENTS))
            start += many
        work.publish(Ledger.of("documents", read=count, kept=count), rows=count, schema=DOCUMENTS)


def run(folder: str, cpus: int) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    with connect(ClusterOptions(cpus=cpus)), used() as usage:
        started = time.monotonic()

        def ended(name: str) -> None:
            seconds[name] = time.monotonic() - started - sum(seconds.values())

        clean, clusters, pairs = (f"{folder}/{name}" for name in ("clean", "clusters", "pairs"))
        clean_documents(clean, f"{folder}/documents")
        ended("clean")
        found = deduplicate(clusters, clean)
        ended("clusters")
        made = make_text_pairs(
            pairs, documents=clean, clusters=clusters, neighbours=NeighbourOptions(), split=SplitOptions()
        )
        ended("pairs")
    return {"kept": found.balance.kept, "pairs": made.rows, "seconds": seconds, "wall": sum(seconds.values()), **usage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="*", default=[100_000, 1_000_000], help="of one host")
    parser.add_argument(
        "--copies", type=int, nargs="*", default=[100_000], help="of one text, among twice as many others"
    )
    parser.add_argument("--no-even", action="store_true", help="without the same number of many hosts beside each")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.one, given.cpus)))
        return
    cases = []
    for count in given.documents:
        cases += [(f"{count:,} of one host", count, 0, 1), (f"{count:,} of {count // 100:,}", count, 0, count // 100)]
    for count in given.copies:
        # A third of a host's pages: half of them would be its furniture.
        hosts, every = 3 * count // 100, 3 * count
        cases += [(f"{count:,} copies in {every:,}", every, count, hosts), (f"no copies in {every:,}", every, 0, hosts)]
    table = Table("documents", "kept", "pairs", "clean s", "clusters s", "pairs s", "CPU s", "driver MB", "worker MB")
    rows = {}
    for name, count, copies, hosts in cases[:: 2 if given.no_even else 1]:
        with tempfile.TemporaryDirectory() as folder:
            write_documents(f"{folder}/documents", count, copies, hosts)
            command = [sys.executable, __file__, "--one", folder, "--cpus", str(given.cpus)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        rows[name] = row = json.loads(done.stdout.splitlines()[-1])
        print(name, row, flush=True)
        steps = [f"{value:.1f}" for value in row["seconds"].values()]
        peak = [f"{row[who]:,.0f}" for who in ("cpu", "driver_mb", "worker_mb")]
        table.add_row(name, f"{row['kept']:,}", f"{row['pairs']:,}", *steps, *peak)
    Console(width=140).print(table)
    kept = json.loads(RESULT.read_text())["cases"] if RESULT.exists() else {}
    RESULT.write_text(json.dumps({"machine": machine(), "cases": kept | rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
