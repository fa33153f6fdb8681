"""From archives to batches at 1, 4 and 16 times one input: seconds of every step, their growth, and peak memory. Run as
`make bench-scale` (`--sizes 1 4` for a part of it; `--bucket` adds the smallest size written to an S3 server on loopback).

The input is real: the 481 pages of `wcxb` and `article-extraction`, of which one character in twenty is text, or by
`--of texts` the PEPs and Rust's RFCs as pages that are text alone: as many bytes hold twenty times as many pairs. An edition
of them has four in ten words replaced by other words of theirs (seeded) and hosts of its own, so that no page is a copy; the
size 1 is two editions, or thirteen. Each size runs in a process of its own, by the functions that `cpt-ray text-pairs` and
`cpt-ray train` stand on.
"""

from __future__ import annotations

import argparse
import gzip
import html
import io
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import psutil
from processes import in_own_process, watched
from rich.console import Console
from rich.table import Table
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from cpt_ray.artifacts import run_flow
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.evaluate.report import machine
from cpt_ray.memory import _pss
from cpt_ray.model.encoding import encoder
from cpt_ray.model.options import TokenizerOptions
from cpt_ray.model.tokenizer import train_tokenizer
from cpt_ray.pairs.batches_across import make_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.splits import TRAIN
from cpt_ray.web.archive import read_archive
from cpt_ray.web.content import decode
from pipelines import text_pairs
from pipelines.options.text_pairs import Steps

HERE = Path(__file__).parent
RESULT = HERE / "results" / "scale.json"
DATA = HERE.parents[1] / "shared" / "data"
EDITIONS = {"pages": 2, "texts": 13}
"""Of the size 1."""
BATCH = 256
"""Of different pages, as a batch has no two pairs of a duplicate cluster."""
_BETWEEN = re.compile(r">[^<]+<")
_WORD = re.compile(r"[a-z]{3,}")


def pages() -> list[tuple[str, str]]:
    """(url, html) of the real pages."""
    found = [(r.url, decode(r.body, r.charset)) for r in read_archive(str(DATA / "web" / "wcxb" / "pages.warc.gz"))]
    folder = DATA / "web" / "article-extraction"
    for name in sorted(json.loads((folder / "ground-truth.json").read_text())):
        html = decode(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()), None)
        found.append((f"https://news{int(name[:4], 16) % 40}.example/{name}", html))
    return found


def texts() -> list[tuple[str, str]]:
    """(url, html) of the real texts: a paragraph is one of the page, an indented one is preformatted."""
    found = []
    for name in ("peps", "rust-rfcs"):
        with gzip.open(DATA / "text" / f"{name}.jsonl.gz", "rt") as lines:
            for at, line in enumerate(lines):
                paragraphs = html.escape(json.loads(line)["text"], quote=False).split("\n\n")
                marked = (f"<{'pre' if text.startswith('  ') else 'p'}>{text}" for text in paragraphs)
                found.append((f"https://{name}{at % 20}.example/{at}", f"<main>{''.join(marked)}</main>"))
    return found


def write_edition(number: int, path: Path, of: str) -> int:
    """An edition of the pages, or the texts, as a WARC file; returns its bytes of HTML."""
    real, chosen, total = {"pages": pages, "texts": texts}[of](), random.Random(number), 0
    words = sorted({word for _, page in real for text in _BETWEEN.findall(page) for word in _WORD.findall(text)})
    packed = io.BytesIO()
    writer = WARCWriter(packed, gzip=False)
    with gzip.open(path, "wb", compresslevel=1) as sink:
        for url, page in real:
            said = _BETWEEN.sub(lambda text: _WORD.sub(lambda w: other(w, words, chosen), text[0]), page)
            body = said.encode("utf-8", "replace")
            total += len(body)
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.0")
            uri = re.sub(r"^https?://([^/]+)", rf"https://e{number}.\1", url)
            record = writer.create_warc_record(uri, "response", payload=io.BytesIO(body), http_headers=headers)
            writer.write_record(record)
            sink.write(packed.getvalue())
            packed.seek(0)
            packed.truncate()
    return total


def other(word: re.Match[str], words: list[str], chosen: random.Random) -> str:
    return words[int(chosen.random() * len(words))] if chosen.random() < 0.4 else word[0]


@contextmanager
def used() -> Iterator[dict[str, float]]:
    """MB (proportional) that the driver, and the largest of the workers, had at most, and CPU seconds of all of them."""
    found, cpu = {"driver_mb": 0.0, "worker_mb": 0.0, "cpu": 0.0}, dict[int, float]()

    def look(process: psutil.Process, who: str) -> None:
        times = process.cpu_times()
        cpu[process.pid] = times.user + times.system
        found["cpu"] = sum(cpu.values())
        if who:
            found[f"{who}_mb"] = max(found[f"{who}_mb"], _pss(process.pid) / 1e6)

    with watched(look, 0.5):
        yield found


def run(archive: str, out: str, cpus: int) -> dict[str, Any]:
    """Archives to batches; seconds by step, and what came out."""
    with gzip.open(DATA / "text" / "peps.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    encode = encoder(train_tokenizer(texts, TokenizerOptions()))
    seconds: dict[str, float] = {}
    with connect(ClusterOptions(cpus=cpus)), used() as usage:
        started = time.monotonic()

        def ended(wanted: Any, manifest: Any) -> None:
            seconds[wanted.path.rpartition("/")[2]] = time.monotonic() - started - sum(seconds.values())

        made = run_flow(text_pairs.flow(out, archive, Steps()), ended=ended)
        pairs = f"{out}/text_pairs"
        inputs: dict[str, Any] = {"pairs": made[pairs], "tokenizer": "benchmark"}
        options = BatchOptions(batch_size=BATCH)
        batches = make_batches(f"{out}/batches", pairs, encode, options, inputs=inputs, split=TRAIN)
        seconds["batches"] = time.monotonic() - started - sum(seconds.values())
    return {
        "documents": made[f"{out}/documents"].rows,
        "pairs": made[pairs].rows,
        "batches": batches.extra["batches"],
        "digest": batches.digest,
        "seconds": seconds,
        "wall": sum(seconds.values()),
        **usage,
    }


@contextmanager
def bucket() -> Iterator[tuple[str, psutil.Process]]:
    """A bucket of moto's server, named by the environment, and the server's process."""
    import boto3

    code = (
        "import sys; from moto.server import ThreadedMotoServer as S; s = S('127.0.0.1', 0, verbose=False); s.start();"
        "print(s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as server:
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="scale")
        yield "s3://scale/out", psutil.Process(server.pid)
        server.terminate()


def exponent(rows: dict[int, dict[str, Any]], of: str) -> float:
    """Of the growth of seconds with size: the slope of the line through their logarithms."""
    x, y = [math.log(size) for size in rows], [math.log(row[of]) for row in rows.values()]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--of", choices=EDITIONS, default="pages", help="what the input is made of")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--bucket", action="store_true", help="the smallest size once more, to S3 on loopback")
    parser.add_argument("--one", nargs=2, metavar=("ARCHIVE", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        archive, out = given.one
        print(json.dumps(run(archive, out, given.cpus)))
        return
    console, alone = Console(), (sys.executable, __file__, "--cpus", str(given.cpus), "--one")
    if not DATA.is_dir():
        raise SystemExit(f"the data is not there: {DATA}")
    rows: dict[int, dict[str, Any]] = {}
    editions = EDITIONS[given.of]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"edition-{number:03d}.warc.gz") for number in range(editions * max(given.sizes))]
        with ProcessPoolExecutor(given.cpus) as pool:
            html_bytes = list(pool.map(write_edition, range(len(files)), files, repeat(given.of)))
        for size in sorted(given.sizes):
            archive = Path(folder, f"archive-{size}")
            archive.mkdir()
            for file in files[: editions * size]:
                (archive / file.name).symlink_to(file)
            rows[size] = in_own_process(*alone, str(archive), f"{folder}/out-{size}")
            rows[size]["html_gb"] = sum(html_bytes[: editions * size]) / 1e9
            console.print(f"{size}: {rows[size]}")
        smallest = min(rows)
        if given.bucket:
            with bucket() as (place, server):
                row = in_own_process(*alone, f"{folder}/archive-{smallest}", place)
                row["server_cpu"] = sum(server.cpu_times()[:2])
            there, here = row, rows[smallest]
            assert there["digest"] == here["digest"]
    last = ("wall s", "CPU s", "driver MB", "worker MB")
    table = Table("size", "HTML GB", "documents", "pairs", *rows[smallest]["seconds"], *last)
    for size, row in rows.items():
        steps = [f"{value:.1f}" for value in row["seconds"].values()]
        peak = [f"{row[who]:,.0f}" for who in ("cpu", "driver_mb", "worker_mb")]
        counts = [f"{row['html_gb']:.2f}", f"{row['documents']:,}", f"{row['pairs']:,}"]
        table.add_row(str(size), *counts, *steps, f"{row['wall']:.1f}", *peak)
    console.print(table)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"sizes": {}}
    if len(rows) > 1:
        grow = {of: exponent(rows, of) for of in ("wall", "cpu")}
        console.print("seconds grow with size to the power of", grow)
        found = {"machine": machine(), "sizes": rows, "exponents": grow}
        result |= found if given.of == "pages" else {given.of: found}
    if given.bucket:
        result["bucket"] = {"machine": machine(), "size": smallest, "folder": here, "bucket": there}
        console.print(
            f"to a bucket on loopback: {there['wall'] / here['wall']:.2f} times the folder's time, "
            f"{there['cpu'] / here['cpu']:.2f} times its CPU seconds; its server took {there['server_cpu']:.1f} CPU s besides"
        )
        console.print("by step:", {name: round(seconds, 1) for name, seconds in there["seconds"].items()})
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
