"""Deduplication beside its peers: signatures on one core, and text in to kept ids out. Run as `make bench-dedup`.

Peers run in `.venv-bench` (`make bench-env`), each in a process of its own; one that cannot be imported is left out and
said so. `--documents 100000 1000000` are the sizes of the whole path (default 100,000); `--tools` limits the peers of
it; `--only signatures|end-to-end` runs one half. A tool that takes longer than `--limit` seconds, or whose processes
together hold more than `--memory-limit` GB, is stopped; its rows say so and hold what it had cost by then, a bound from
below. Rows of a case and peer already in the results are replaced, others stay.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from cpt_ray.dedup import minhash
from cpt_ray.evaluate.report import machine

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "dedup_peers"))
import corpus  # noqa: E402 - lies beside this file, and is no package
import signatures  # noqa: E402

RESULT = HERE / "results" / "dedup.json"
BENCH = HERE.parent / ".venv-bench" / "bin" / "python"
NGRAM, PERMUTATIONS = 5, 128
SIZES = {100_000: "100k", 1_000_000: "1M"}
Row = dict[str, Any]


def row(
    case: str, metric: str, ours: float, peer: str | None, theirs: float | None, more_is_better: bool, note: str = ""
) -> Row:
    ratio = None if not theirs else (ours / theirs if more_is_better else theirs / ours)
    return {
        "case": case,
        "metric": metric,
        "ours_value": round(ours, 3),
        "peer": peer,
        "peer_value": None if theirs is None else round(theirs, 3),
        "ratio": None if ratio is None else round(ratio, 2),
        **({"note": note} if note else {}),
    }


def bench_signatures() -> list[Row]:
    """MB of text per CPU-second, one core, the same documents, n-gram and number of permutations for everyone."""
    pieces = [text[i : i + 4900] for text in corpus.real_text(24_000_000) for i in range(0, len(text), 4900)]
    column = pa.array(pieces)
    size = sum(len(piece.encode()) for piece in pieces)
    minhash.sign(column[:100], ngram=NGRAM, count=PERMUTATIONS)
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        minhash.sign(column, ngram=NGRAM, count=PERMUTATIONS)
        best = min(best, time.process_time() - started)
    ours = size / best / 1e6
    case, metric = f"signatures, {size / 1e6:.0f} MB of real text, word 5-grams, 128 permutations", "MB/CPU-s"
    rows = [row(case, metric, ours, None, None, True)]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/documents.parquet"
        pq.write_table(pa.table({"text": column}), path)
        for peer in signatures.PEERS if BENCH.exists() else ():
            command = [BENCH, HERE / "dedup_peers" / "signatures.py", peer, path, str(NGRAM), str(PERMUTATIONS)]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if done.returncode:
                print(f"{peer}: left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            found = json.loads(done.stdout.strip().splitlines()[-1])
            rows.append(row(case, metric, ours, peer, found["bytes"] / found["cpu_s"] / 1e6, True))
    return rows


class NotFinished(Exception):
    """A tool that did not come to its end; the words say why, `spent` what it had cost by then."""

    def __init__(self, why: str, spent: dict[str, float]) -> None:
        super().__init__(why)
        self.spent = spent


def measured(command: list[str], limit: float, memory_limit: float) -> dict[str, float]:
    """Run a command: wall and CPU seconds, and the peak of the resident memory of all its processes together.

    Raises NotFinished where it takes more than `limit` seconds or `memory_limit` GB; nothing of it is left running.
    """
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    members: dict[tuple[int, float], psutil.Process] = {}
    peak, cpu, ended, why = 0, {}, threading.Event(), ""

    def watch() -> None:
        nonlocal peak, why
        while not ended.wait(0.1):
            total = 0
            try:
                tree = [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for member in tree:
                try:
                    total += member.memory_info().rss
                    times, key = member.cpu_times(), (member.pid, member.create_time())
                    cpu[key], members[key] = times.user + times.system, member
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)
            spent = time.perf_counter() - started
            if spent > limit:
                why = f"did not finish in {limit:.0f} s"
            elif total > memory_limit * 1e9:
                why = f"took more than {memory_limit:.0f} GB of memory after {spent:.0f} s"
            if why:
                _kill(tree)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    ended.set()
    watcher.join()
    _kill(members.values())  # what a tool leaves running, or what lost its parent before the tree was killed
    spent = {"wall_s": time.perf_counter() - started, "cpu_s": sum(cpu.values()), "peak_gb": peak / 1e9}
    if why:
        raise NotFinished(why, spent)
    if process.returncode:
        print(errors.decode(errors="replace")[-2000:], file=sys.stderr)
        raise NotFinished(f"ended with exit code {process.returncode}", spent)
    return spent


def _kill(processes: Iterable[psutil.Process]) -> None:
    """Kill those of them that still run; a number that another process has by now is left alone (psutil checks)."""
    for one in processes:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue


def bench_end_to_end(
    count: int, tools: list[str], keep: Path, limit: float, memory_limit: float
) -> Iterator[list[Row]]:
    """Rows of one tool after the other, ours first."""
    source = keep / f"corpus-{count}"
    size = corpus.write(str(source), count)
    case = f"end to end, {SIZES.get(count, f'{count:,}')}"
    ours: dict[str, float] = {}
    for tool in ["ours", *(tools if BENCH.exists() else ())]:
        work = keep / f"{tool}-{count}"
        shutil.rmtree(work, ignore_errors=True)
        python = sys.executable if tool == "ours" else str(BENCH)
        command = [python, str(HERE / "dedup_peers" / "end_to_end.py"), tool, str(source), str(work)]
        try:
            found = measured(command, limit, memory_limit)
        except NotFinished as error:
            if tool == "ours":
                raise
            print(f"{tool}: {error}", file=sys.stderr)
            why = f"at least: {error}"
            yield [row(case, metric, ours[metric], tool, value, False, why) for metric, value in error.spent.items()]
            continue
        kept = set(pq.read_table(work / "kept.parquet")["doc_id"].to_pylist())
        found["precision"], found["recall"] = corpus.judge(str(source), kept)
        found["MB/CPU-s"] = size / found["cpu_s"] / 1e6
        shutil.rmtree(work)
        ours = found if tool == "ours" else ours
        more = ("precision", "recall", "MB/CPU-s")
        peer = None if tool == "ours" else tool
        yield [
            row(case, metric, ours[metric], peer, None if peer is None else value, metric in more)
            for metric, value in found.items()
        ]


def growth(rows: list[Row]) -> list[Row]:
    """The exponent of our CPU seconds between the two largest sizes measured."""
    import math

    sizes = {f"end to end, {name}": count for count, name in SIZES.items()}
    points = sorted(
        (sizes[r["case"]], r["ours_value"])
        for r in rows
        if r["peer"] is None and r["metric"] == "cpu_s" and r["case"] in sizes
    )
    if len(points) < 2:
        return []
    (n0, s0), (n1, s1) = points[-2:]
    return [row("end to end, growth 100k to 1M", "exponent of CPU-s", math.log(s1 / s0, n1 / n0), None, None, False)]


def main() -> None:
    """Run the cases asked for, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, nargs="*", default=[100_000])
    parser.add_argument("--tools", nargs="*", default=["datatrove", "text-dedup", "data-juicer"])
    parser.add_argument("--only", choices=["signatures", "end-to-end"])
    parser.add_argument("--keep", type=Path, help="a folder for the corpora, so that a second run need not make them")
    parser.add_argument("--limit", type=float, default=360, help="seconds that a tool may take for the whole path")
    parser.add_argument("--memory-limit", type=float, default=16, help="GB that a tool's processes may hold together")
    chosen = parser.parse_args()
    if not BENCH.exists():
        print("there is no .venv-bench (make bench-env): without the peers", file=sys.stderr)
    if chosen.only != "end-to-end":
        record(bench_signatures())
    limits = (chosen.limit, chosen.memory_limit)
    with tempfile.TemporaryDirectory() as temporary:
        for count in chosen.documents if chosen.only != "signatures" else []:
            for rows in bench_end_to_end(count, chosen.tools, chosen.keep or Path(temporary), *limits):
                record(rows)
    show(json.loads(RESULT.read_text())["rows"])


def record(rows: list[Row]) -> None:
    """Put rows in the place of earlier ones of the same case and peer; the others stay."""
    before = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    fresh = {_subject(r) for r in rows}
    rows = [r for r in before if _subject(r) not in fresh] + rows
    rows = [r for r in rows if not r["case"].startswith("end to end, growth")]
    rows += growth(rows)
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("numba", "numpy", "pyarrow", "datasketch")}
    versions |= peer_versions()
    RESULT.parent.mkdir(exist_ok=True)
    result = {"area": "dedup", "machine": machine(), "versions": versions, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def _subject(r: Row) -> tuple[str, str | None]:
    """What a row is about: its case (that of the signatures says how much text there was, which may differ) and peer."""
    case = r["case"]
    return ("signatures" if case.startswith("signatures,") else case, r["peer"])


def peer_versions() -> dict[str, str]:
    """Versions in the peers' environment."""
    names = ("datatrove", "rensa", "daft", "polars", "text-dedup", "py-data-juicer")
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    done = subprocess.run([str(BENCH), "-c", code], capture_output=True, text=True) if BENCH.exists() else None
    return json.loads(done.stdout) if done and not done.returncode else {}


def show(rows: list[Row]) -> None:
    """The rows as a table."""
    table = Table("case", "metric", "ours", "peer", "theirs", "ratio", box=None)
    for r in rows:
        values = [r[name] for name in ("case", "metric", "ours_value", "peer", "peer_value", "ratio")]
        table.add_row(*("" if v is None else f"{v:,}" if isinstance(v, float) else str(v) for v in values))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
