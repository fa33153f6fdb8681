"""WARC, or WET, -> documents -> pairs beside datatrove's reader, trafilatura and filters: pages per CPU second on the same
archives.
Run as `make bench-text`; the peer runs in its own environment (`make bench-env`), or in that of `--peers PYTHON`.

Ours is measured in its second run, in one process of its own without Ray: the first, over the first archive, loads models
and compiles. `documents` is what the peer does (read, extract, language, quality rules); `pairs` goes on to repeated
paragraphs, duplicates and pairs. The archives are `wcxb`, or with `--editions N` so many editions of the pages of two
benchmarks as `bench-scale` has them (0.13 GB of HTML each, no page a copy of another; 16 are 2 GB). The WET files hold the
text of the same pages.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import in_own_process
from rich.console import Console
from rich.table import Table
from scale import write_edition
from warcio.warcwriter import WARCWriter

from cpt_ray.evaluate.report import machine
from cpt_ray.memory import peak_rss
from cpt_ray.web.archive import read_archive
from cpt_ray.web.content import decode
from cpt_ray.web.page import read_page
from pipelines import text_pairs
from pipelines.options.text_pairs import Steps

HERE = Path(__file__).parent
RESULT = HERE / "results" / "text.json"
DATA = HERE.parents[1] / "shared" / "data" / "web" / "wcxb"
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
PEER = "datatrove, documents"


def ours(archive: str) -> dict[str, dict[str, Any]]:
    """CPU seconds and rows up to the documents, and up to the pairs, and the most memory that was held until then."""
    found: dict[str, dict[str, Any]] = {}
    for read in (str(min(Path(archive).glob("*.gz"))), archive):  # loading, measured
        with tempfile.TemporaryDirectory() as out:
            started = time.process_time()
            for wanted in text_pairs.flow(out, read, Steps()):
                made = wanted.make()
                row = {"seconds": time.process_time() - started, "kept": made.rows, "peak_mb": peak_rss() / 1e6}
                if wanted.stage.name == "documents":
                    pages = made.balance.units["documents"].read
                    found["cpt-ray, documents"] = row | {"pages": pages}
            found["cpt-ray, pairs"] = row | {"pages": pages}
    return found


def write_wet(archives: Path, folder: Path) -> None:
    """The main text of all pages as conversion records, a file for each WARC file."""
    for path in sorted(archives.glob("*.warc.gz")):
        with (folder / path.name.replace(".warc.gz", ".warc.wet.gz")).open("wb") as sink:
            writer = WARCWriter(sink, gzip=True)
            for record in read_archive(str(path)):
                if record.reason is None and record.kind == "response":
                    text = io.BytesIO(read_page(decode(record.body, record.charset)).text.encode())
                    about = {"payload": text, "warc_content_type": "text/plain", "warc_headers_dict": {}}
                    writer.write_record(writer.create_warc_record(record.url, "conversion", **about))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", default=str(DATA), metavar="FOLDER", help="of WARC files")
    parser.add_argument(
        "--editions", type=int, default=0, metavar="N", help="written to a folder and read, in its place"
    )
    parser.add_argument("--peers", default=str(BENCH_PYTHON), metavar="PYTHON", help="of the peers' environment")
    parser.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(ours(options.one)))
        return
    console = Console()
    if not Path(options.archive).is_dir():
        raise SystemExit(f"the archive is not there: {options.archive}")
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        archives, texts = Path(folder) / "warc", Path(folder) / "wet"
        archives.mkdir()
        texts.mkdir()
        for number in range(options.editions):
            write_edition(number, archives / f"edition-{number:02d}.warc.gz", "pages")
        for path in [] if options.editions else Path(options.archive).glob("*.warc.gz"):
            (archives / path.name).symlink_to(path)  # datatrove reads whatever lies in a folder
        of_kind = {"WARC": str(archives), "WET": str(texts)}
        write_wet(Path(of_kind["WARC"]), texts)
        for kind, archive in of_kind.items():
            made = in_own_process(sys.executable, __file__, "--one", archive)
            rows |= {f"{kind}: {name}": row for name, row in made.items()}
            if not Path(options.peers).exists():
                console.print(f"no peers: {options.peers} is not there (make bench-env)")
                continue
            rows[f"{kind}: {PEER}"] = in_own_process(
                options.peers, str(HERE / "text_peers" / "peers.py"), archive, kind
            )
    table = Table("way", "pages", "kept", "CPU s", "pages/CPU-s", "peak MB")
    for name, row in rows.items():
        row["pages_per_cpu_second"] = row["pages"] / row["seconds"]
        shown = (f"{row['pages']:,}", f"{row['kept']:,}", f"{row['seconds']:.1f}", f"{row['pages_per_cpu_second']:.0f}")
        table.add_row(name, *shown, f"{row['peak_mb']:,.0f}" if "peak_mb" in row else "")
    console.print(table)
    if Path(options.peers).exists():
        for name, row in rows.items():
            peer = rows[f"{name.split(':')[0]}: {PEER}"]["pages_per_cpu_second"]
            if PEER not in name:
                console.print(f"{name}: {row['pages_per_cpu_second'] / peer:.1f} times datatrove's documents")
        about = {"machine": machine(), "editions": options.editions, "ways": rows}
        RESULT.write_text(json.dumps(about, indent=2) + "\n")
        console.print(f"written to {RESULT.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
