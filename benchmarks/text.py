"""WARC -> documents -> pairs beside datatrove's reader, trafilatura and filters: pages per CPU second on the same archive.
Run as `make bench-text`; the peer runs in its own environment (`make bench-env`), or in that of `--peers PYTHON`.

Ours is measured in its second run, in one process without Ray: the first loads models and compiles. `documents` is what
the peer does (read, extract, language, quality rules); `pairs` goes on to repeated paragraphs, duplicates and pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpt_ray.evaluate.report import machine
from pipelines import text_pairs
from pipelines.options.text_pairs import Steps

HERE = Path(__file__).parent
RESULT = HERE / "results" / "text.json"
DATA = HERE.parents[1] / "shared" / "data" / "web" / "wcxb"
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"


def ours(archive: str) -> dict[str, dict[str, Any]]:
    """CPU seconds and rows up to the documents, and up to the pairs."""
    found: dict[str, dict[str, Any]] = {}
    for _ in ("loading", "measured"):
        with tempfile.TemporaryDirectory() as out:
            started = time.process_time()
            for wanted in text_pairs.flow(out, archive, Steps()):
                made = wanted.make()
                seconds = time.process_time() - started
                if wanted.stage.name == "documents":
                    pages = made.balance.units["documents"].read
                    found["cpt-ray, documents"] = {"seconds": seconds, "pages": pages, "kept": made.rows}
            found["cpt-ray, pairs"] = {"seconds": seconds, "pages": pages, "kept": made.rows}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", default=str(DATA), metavar="FOLDER", help="of WARC files")
    parser.add_argument("--peers", default=str(BENCH_PYTHON), metavar="PYTHON", help="of the peers' environment")
    options = parser.parse_args()
    console = Console()
    if not Path(options.archive).is_dir():
        raise SystemExit(f"the archive is not there: {options.archive}")
    rows = ours(options.archive)
    if Path(options.peers).exists():
        command = [options.peers, str(HERE / "text_peers" / "peers.py"), options.archive]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows["datatrove, documents"] = json.loads(done.stdout.splitlines()[-1])
    else:
        console.print(f"no peers: {options.peers} is not there (make bench-env)")
    table = Table("way", "pages", "kept", "CPU s", "pages/CPU-s")
    for name, row in rows.items():
        row["pages_per_cpu_second"] = row["pages"] / row["seconds"]
        shown = (f"{row['pages']:,}", f"{row['kept']:,}", f"{row['seconds']:.1f}", f"{row['pages_per_cpu_second']:.0f}")
        table.add_row(name, *shown)
    console.print(table)
    if len(rows) > 2:
        peer = rows["datatrove, documents"]["pages_per_cpu_second"]
        for name in ("cpt-ray, documents", "cpt-ray, pairs"):
            console.print(f"{name}: {rows[name]['pages_per_cpu_second'] / peer:.1f} times datatrove's documents")
        RESULT.write_text(json.dumps({"machine": machine(), "ways": rows}, indent=2) + "\n")
        console.print(f"written to {RESULT.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
