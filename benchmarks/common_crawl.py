"""A crawl laid out as Common Crawl lays out its own, served by nginx over TLS on loopback, and read by `cpt-ray text-pairs
archive=https://...`: what the server sent beside what it has. Run as `make bench-common_crawl`.

Made of `wcxb`: WARC and WET files of 25 records each, `warc.paths.gz` and `wet.paths.gz`, the two-level CDXJ index, and
the columnar one. The rows must be those of the same archives read here; otherwise the run ends with an error.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from crawl_peers.nginx import serving
from rich.console import Console
from rich.table import Table
from warcio.warcwriter import WARCWriter

from cpt_ray.artifacts import read_manifest, read_table
from cpt_ray.evaluate.report import machine
from cpt_ray.web.archive import read_archive
from cpt_ray.web.content import decode
from cpt_ray.web.page import read_page

HERE = Path(__file__).parent
RESULT = HERE / "results" / "common_crawl.json"
DATA = HERE.parents[1] / "shared" / "data" / "web" / "wcxb" / "pages.warc.gz"
PER_FILE, PER_BLOCK = 25, 10
CRAWL, INDEX = "crawl-data/CC-MAIN-2026-43", "cc-index/collections/CC-MAIN-2026-43/indexes"
TABLE = "cc-index/table/cc-main/warc/crawl=CC-MAIN-2026-43/subset=warc"


def lay_out(root: Path, source: Path) -> list[dict[str, Any]]:
    """Write the crawl below `root`; returns the index's entries."""
    data, entries = source.read_bytes(), []
    records = list(read_archive(str(source)))
    starts = [*(record.offset for record in records), len(data)]
    pages = [(r, data[a:b]) for r, a, b in zip(records, starts, starts[1:], strict=False) if r.kind == "response"]
    names: dict[str, list[str]] = {"warc": [], "wet": []}
    for number in range(0, len(pages), PER_FILE):
        warc, wet = (
            f"{CRAWL}/segments/1/{kind}/CC-MAIN-{number // PER_FILE:05d}.warc{'' if kind == 'warc' else '.wet'}.gz"
            for kind in ("warc", "wet")
        )
        for name in (warc, wet):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
        names["warc"].append(warc)
        names["wet"].append(wet)
        with (root / warc).open("wb") as archive, (root / wet).open("wb") as texts:
            writer = WARCWriter(texts, gzip=True)
            for record, raw in pages[number : number + PER_FILE]:
                entry = {
                    "url": record.url, "mime": record.content_type, "mime-detected": record.content_type,
                    "status": str(record.status), "languages": "eng", "filename": warc,
                    "offset": str(archive.tell()), "length": str(len(raw)),
                }  # fmt: skip
                entries.append(entry)
                archive.write(raw)
                text = io.BytesIO(read_page(decode(record.body, record.charset)).text.encode())
                about: dict[str, Any] = {"warc_content_type": "text/plain", "warc_headers_dict": {}}
                writer.write_record(writer.create_warc_record(record.url, "conversion", payload=text, **about))
    _index(root, entries)
    for kind, listed in names.items():
        (root / CRAWL / f"{kind}.paths.gz").write_bytes(gzip.compress("".join(f"{n}\n" for n in listed).encode()))
    lists = {
        "cc-index": [f"{INDEX}/cdx-00000.gz", f"{INDEX}/cluster.idx"],
        "cc-index-table": [f"{TABLE}/part-0.parquet"],
    }
    for name, listed in lists.items():
        (root / CRAWL / f"{name}.paths.gz").write_bytes(gzip.compress("".join(f"{n}\n" for n in listed).encode()))
    return entries


def surt(url: str) -> str:
    """The key that Common Crawl sorts by."""
    parts = urlsplit(url)
    host = re.sub(r"^www\d*\.", "", (parts.hostname or "").lower())
    return f"{','.join(reversed(host.split('.')))}){parts.path or '/'}{'?' if parts.query else ''}{parts.query}".lower()


def domain_of(url: str) -> str:
    """The last two parts of the host: near enough to a registered domain for a benchmark."""
    return ".".join((urlsplit(url).hostname or "").split(".")[-2:])


def _index(root: Path, entries: list[dict[str, Any]]) -> None:
    """`cdx-00000.gz` and `cluster.idx`, and the columnar index in row groups of PER_BLOCK."""
    for folder in (INDEX, TABLE):
        (root / folder).mkdir(parents=True)
    ordered = sorted(entries, key=lambda entry: surt(entry["url"]).encode())
    lines = [f"{surt(entry['url'])} 20261017000000 {json.dumps(entry)}\n" for entry in ordered]
    data, upper = b"", ""
    for at in range(0, len(lines), PER_BLOCK):
        block = gzip.compress("".join(lines[at : at + PER_BLOCK]).encode())
        key = " ".join(lines[at].split(" ")[:2])
        upper += f"{key}\tcdx-00000.gz\t{len(data)}\t{len(block)}\t{at // PER_BLOCK + 1}\n"
        data += block
    (root / INDEX / "cdx-00000.gz").write_bytes(data)
    (root / INDEX / "cluster.idx").write_text(upper)
    ordered = sorted(entries, key=lambda entry: domain_of(entry["url"]))
    columns = {
        "url_surtkey": [surt(entry["url"]) for entry in ordered],
        "url": [entry["url"] for entry in ordered],
        "url_host_name": [urlsplit(entry["url"]).hostname for entry in ordered],
        "url_host_registered_domain": [domain_of(entry["url"]) for entry in ordered],
        "fetch_status": pa.array([int(entry["status"]) for entry in ordered], pa.int16()),
        "content_mime_type": [entry["mime"] for entry in ordered],
        "content_mime_detected": [entry["mime-detected"] for entry in ordered],
        "content_languages": [entry["languages"] for entry in ordered],
        "warc_filename": [entry["filename"] for entry in ordered],
        "warc_record_offset": pa.array([int(entry["offset"]) for entry in ordered], pa.int32()),
        "warc_record_length": pa.array([int(entry["length"]) for entry in ordered], pa.int32()),
    }
    pq.write_table(pa.table(columns), root / TABLE / "part-0.parquet", row_group_size=PER_BLOCK)


def text_pairs(archive: str, out: Path, words: list[str], environment: dict[str, str]) -> None:
    """The command itself."""
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "text-pairs",
        f"archive={archive}",
        f"cluster.outputs={out}",
        *words,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=DATA, metavar="FILE", help="a WARC file of pages")
    source = parser.parse_args().source
    if not source.is_file():
        raise SystemExit(f"the pages are not there: {source}")
    console, rows = Console(), {}
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "site", Path(folder) / "out"
        entries = lay_out(root, source)
        domains = [name for name, _ in Counter(domain_of(entry["url"]) for entry in entries).most_common(3)]
        asked = [entry for entry in entries if domain_of(entry["url"]) in domains]
        query = [f"select.domains=[{','.join(domains)}]"]
        every_language = ["extract.languages=[]"]
        with serving(root, tls=True) as server:
            trusting = {**os.environ, "SSL_CERT_FILE": str(server.certificate), "PYTHONPATH": str(HERE.parent)}
            base = f"https://127.0.0.1:{server.port}/{CRAWL}"
            allowed = ["network.allow_private=[127.0.0.0/8]", *every_language]
            text_pairs(f"{root}/{CRAWL}/segments/1/warc", out, ["output=here", *every_language], trusting)
            here = {row["url"]: row for row in read_table(f"{out}/here/documents").to_pylist()}
            for name, words in {
                "warc.paths.gz": [], "wet.paths.gz": [], "cc-index.paths.gz": query, "cc-index-table.paths.gz": query,
            }.items():  # fmt: skip
                server.forget()
                text_pairs(f"{base}/{name}", out, [f"output={name}", *words, *allowed], trusting)
                sent: Counter[str] = Counter()
                for request in server.log():
                    sent[_kind(request.path)] += request.sent
                size: Counter[str] = Counter()
                for path in root.rglob("*.*"):
                    if path.is_file():
                        size[_kind(str(path))] += path.stat().st_size
                documents = read_table(f"{out}/{name}/documents").to_pylist()
                kind = "WET" if name.startswith("wet") else "WARC"
                wanted = sum(int(entry["length"]) for entry in asked) if words else size[kind]
                rows[name] = {
                    "documents": len(documents),
                    "pairs": read_manifest(f"{out}/{name}/text_pairs").rows,
                    "archive_bytes_asked_for": wanted,
                    "archive_bytes_sent": sent[kind],
                    "archive_bytes_there": size[kind],
                    "index_bytes_sent": sent["index"] if words else 0,
                    "index_bytes_there": size["index"],
                    "requests": len(server.log()),
                }
                if name != "wet.paths.gz":
                    if any(row != here[row["url"]] for row in documents):
                        raise SystemExit(f"{name}: not the documents that the same archives give here")
                    expected = {e["url"] for e in asked} & set(here) if words else set(here)
                    if len(documents) != len(expected):
                        raise SystemExit(f"{name}: {len(documents)} documents, expected {len(expected)}")
                if words and sent[kind] != wanted:
                    raise SystemExit(f"{name}: {sent[kind]} bytes of archives were sent, {wanted} asked for")
    table = Table("archive=", "documents", "pairs", "archives: asked for", "sent", "there", "index: sent", "requests")
    for name, row in rows.items():
        table.add_row(
            name, f"{row['documents']:,}", f"{row['pairs']:,}", f"{row['archive_bytes_asked_for']:,}",
            f"{row['archive_bytes_sent']:,}", f"{row['archive_bytes_there']:,}", f"{row['index_bytes_sent']:,}",
            f"{row['requests']:,}",
        )  # fmt: skip
    console.print(table)
    RESULT.write_text(json.dumps({"machine": machine(), "domains": domains, "archives": rows}, indent=2) + "\n")
    console.print(f"written to {RESULT.relative_to(HERE.parent)}")


def _kind(path: str) -> str:
    for ending, kind in ((".warc.gz", "WARC"), (".warc.wet.gz", "WET"), (".paths.gz", "list")):
        if path.endswith(ending):
            return kind
    return "index"


if __name__ == "__main__":
    main()
