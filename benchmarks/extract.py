"""Main text: cpt_ray.web.page beside other extractors on the same pages, by the benchmarks' own measures. Run as `make
bench-extract`; the peers run in their own environment (`make bench-env`), or in that of `--peers PYTHON`.

`article-extraction` (181 news pages) counts shingles of four words, page by page, precision and recall averaged and then
combined (its evaluate.py); `wcxb` (300 pages of seven types) the words of a page, F1 averaged (its evaluate.py). Pages
are given decoded; parsing is part of the time, which is CPU time of one thread.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpt_ray.evaluate.report import machine
from cpt_ray.web.archive import read_archive
from cpt_ray.web.content import decode
from cpt_ray.web.page import read_page

HERE = Path(__file__).parent
RESULT = HERE / "results" / "extract.json"
DATA = HERE.parents[1] / "shared" / "data" / "web"
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
_WORD = re.compile(r"\w+")


def news() -> tuple[list[str], list[str]]:
    """(pages, article bodies) of article-extraction."""
    folder = DATA / "article-extraction"
    truth = json.loads((folder / "ground-truth.json").read_text())
    pages = [decode(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()), None) for name in truth]
    return pages, [entry.get("articleBody", "") for entry in truth.values()]


def wcxb() -> tuple[list[str], list[dict[str, Any]]]:
    """(pages, entries of the truth) of wcxb."""
    with gzip.open(DATA / "wcxb" / "truth.jsonl.gz") as lines:
        truth = {entry["url"]: entry for entry in map(json.loads, lines)}
    found = {r.url: decode(r.body, r.charset) for r in read_archive(str(DATA / "wcxb" / "pages.warc.gz"))}
    return [found[url] for url in truth], list(truth.values())


def shingle_scores(wanted: list[str], found: list[str]) -> dict[str, float]:
    """Precision, recall and F1 as article-extraction has them."""
    precision, recall = [], []
    for truth, text in zip(wanted, found, strict=True):
        a, b = _shingles(truth), _shingles(text)
        common = sum((a & b).values())
        if b:
            precision.append(common / sum(b.values()))
        if a:
            recall.append(common / sum(a.values()))
    p, r = statistics.mean(precision), statistics.mean(recall)
    return {"precision": p, "recall": r, "f1": 2 * p * r / (p + r)}


def _shingles(text: str, n: int = 4) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    return Counter(s for at in range(max(1, len(words) - n + 1)) if (s := tuple(words[at : at + n])))


def word_f1(truth: str, text: str) -> float:
    """F1 of a page as wcxb has it."""
    a, b = _WORD.findall(truth.lower()), _WORD.findall(text.lower())
    if not a or not b:
        return float(not a and not b)
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b))


def ours(pages: dict[str, list[str]]) -> dict[str, Any]:
    """As the peers' results: texts and CPU seconds."""
    read_page(pages["wcxb"][0])
    entry: dict[str, Any] = {"version": "this checkout"}
    for data, htmls in pages.items():
        started = time.process_time()
        texts = [read_page(html).text for html in htmls]
        entry[data] = {"seconds": time.process_time() - started, "texts": texts}
    return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=str(BENCH_PYTHON), metavar="PYTHON", help="of the peers' environment")
    python = parser.parse_args().peers
    console = Console()
    if not DATA.is_dir():
        raise SystemExit(f"the pages are not there: {DATA}")
    news_pages, bodies = news()
    wcxb_pages, truth = wcxb()
    pages = {"article-extraction": news_pages, "wcxb": wcxb_pages}
    results = {"cpt-ray": ours(pages)}
    if Path(python).exists():
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "pages.json", Path(folder) / "made.json"
            given.write_text(json.dumps(pages))
            subprocess.run([python, str(HERE / "extract_peers" / "peers.py"), str(given), str(made)], check=True)
            results |= json.loads(made.read_text())
    else:
        console.print(f"no peers: {python} is not there (make bench-env)")
    table = Table("extractor", "version", "article-extraction F1", "P", "R", "wcxb F1", "pages/CPU-s", "", "all")
    rows: dict[str, dict[str, Any]] = {}
    for name, entry in results.items():
        by_type: dict[str, list[float]] = {}
        for one, text in zip(truth, entry["wcxb"]["texts"], strict=True):
            by_type.setdefault(one["page_type"], []).append(word_f1(one["main_content"], text))
        scores = shingle_scores(bodies, entry["article-extraction"]["texts"])
        seconds = {data: entry[data]["seconds"] for data in pages}
        rows[name] = {
            "version": entry["version"],
            "article-extraction": scores | {"pages_per_cpu_second": len(news_pages) / seconds["article-extraction"]},
            "wcxb": {
                "f1": statistics.mean(score for scores in by_type.values() for score in scores),
                "by_type": {kind: statistics.mean(scores) for kind, scores in sorted(by_type.items())},
                "pages_per_cpu_second": len(wcxb_pages) / seconds["wcxb"],
            },
            "pages_per_cpu_second": (len(news_pages) + len(wcxb_pages)) / sum(seconds.values()),
        }
        table.add_row(
            name, entry["version"], *(f"{scores[key]:.3f}" for key in ("f1", "precision", "recall")),
            f"{rows[name]['wcxb']['f1']:.3f}", f"{rows[name]['article-extraction']['pages_per_cpu_second']:.0f}",
            f"{rows[name]['wcxb']['pages_per_cpu_second']:.0f}", f"{rows[name]['pages_per_cpu_second']:.0f}",
        )  # fmt: skip
    console.print(table)
    if len(rows) > 1:
        for data in pages:
            ratio = rows["cpt-ray"][data]["pages_per_cpu_second"] / rows["trafilatura"][data]["pages_per_cpu_second"]
            console.print(f"{data}: {ratio:.1f} times trafilatura's pages per CPU second")
        RESULT.write_text(json.dumps({"machine": machine(), "extractors": rows}, indent=2) + "\n")
        console.print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
