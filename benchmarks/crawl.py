"""A crawl of one site of 10,000 pages, served by nginx on loopback, beside Scrapy at equal settings: robots.txt obeyed, no
delay, 16 requests at once, every page archived. Run as `make bench-crawl`; Scrapy runs in the peers' environment (`make
bench-env`), or in that of `--peers PYTHON`.

The pages are some of `wcxb`, of 20 to 80 kB, again and again, each with links to ten more. CPU time is that of the whole
process from its start; the server is another one.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from crawl_peers.nginx import Nginx, serving
from rich.console import Console
from rich.table import Table

from cpt_ray.evaluate.report import machine
from cpt_ray.web.archive import read_archive

HERE = Path(__file__).parent
RESULT = HERE / "results" / "crawl.json"
DATA = HERE.parents[1] / "shared" / "data" / "web" / "wcxb" / "pages.warc.gz"
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
AT_ONCE = 16
_BODY = re.compile(rb"<body[^>]*>", re.I)
_RELATIVE = re.compile(rb"(?:href|src)\s*=\s*(?:\"(?!https?:)[^\"]*\"|'(?!https?:)[^']*'|(?!https?:)[^\"'\s>]+)", re.I)
_OTHERWISE = re.compile(rb"<base[\s>]|nofollow|<link[^>]+canonical", re.I)


def lay_out(root: Path, source: Path, pages: int) -> int:
    """Write so many pages, page n with links to pages 10 n + 1 to 10 n + 10; returns their bytes."""
    real = [r.body for r in read_archive(str(source)) if r.kind == "response" and 20_000 < len(r.body) < 80_000]
    # Without those that ask not to be followed, or say that their links belong elsewhere; what links on the site leads to
    # pages that it has.
    chosen = [b for b in real if _BODY.search(b) and not _OTHERWISE.search(b)]
    bodies = [_RELATIVE.sub(lambda link: b'href="/p/%d.html"' % (1 + len(link[0]) % (pages - 1)), b) for b in chosen]
    (root / "p").mkdir(parents=True)
    (root / "robots.txt").write_text("User-agent: *\nDisallow: /private/\n")
    size = 0
    for n in range(pages):
        links = "".join(f'<li><a href="/p/{m}.html">{m}</a>' for m in range(10 * n + 1, min(10 * n + 11, pages)))
        body = _BODY.sub(rb"\g<0>" + f"<ul>{links}</ul>".encode(), bodies[n % len(bodies)], count=1)
        (root / ("index.html" if n == 0 else f"p/{n}.html")).write_bytes(body)
        size += len(body)
    return size


def measured(command: list[str], server: Nginx, agent: str) -> dict[str, Any]:
    """CPU and wall seconds of a process, and the pages that the server sent it."""
    server.forget()
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    ours = [r for r in server.log() if agent in r.agent and r.status == 200 and r.path != "/robots.txt"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"pages": len({r.path for r in ours}), "cpu": cpu, "wall": wall, "pages_per_cpu_second": len(ours) / cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10_000, metavar="N", help="of the site")
    parser.add_argument("--source", type=Path, default=DATA, metavar="FILE", help="a WARC file of pages")
    parser.add_argument("--peers", default=str(BENCH_PYTHON), metavar="PYTHON", help="of the peers' environment")
    options = parser.parse_args()
    console = Console()
    if not options.source.is_file():
        raise SystemExit(f"the pages are not there: {options.source}")
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "site"
        size = lay_out(root, options.source, options.pages)
        with serving(root) as server:
            url = f"http://127.0.0.1:{server.port}/"
            ours = [
                sys.executable, "-m", "pipelines.cli", "crawl", f"web.seeds=[{url}]", "web.allow_private=[127.0.0.0/8]",
                "web.delay=0", f"web.per_host={AT_ONCE}", f"web.concurrency={AT_ONCE}", "web.sitemaps=false",
                f"web.max_pages={2 * options.pages}", "web.contact=me@example.org", f"cluster.outputs={folder}", "output=out",
            ]  # fmt: skip
            rows["cpt-ray"] = measured(ours, server, "cpt-ray")
            if Path(options.peers).exists():
                peer = [options.peers, str(HERE / "crawl_peers" / "spider.py"), url, str(AT_ONCE)]
                rows["Scrapy, archived"] = measured([*peer, f"{folder}/scrapy.warc.gz"], server, "Scrapy")
                rows["Scrapy, thrown away"] = measured([*peer, ""], server, "Scrapy")
            else:
                console.print(f"no peers: {options.peers} is not there (make bench-env)")
    table = Table("crawler", "pages", "CPU s", "wall s", "pages/CPU-s")
    for name, row in rows.items():
        speed = f"{row['pages_per_cpu_second']:.0f}"
        table.add_row(name, f"{row['pages']:,}", f"{row['cpu']:.1f}", f"{row['wall']:.1f}", speed)
    console.print(table)
    if short := [name for name, row in rows.items() if row["pages"] != options.pages]:
        raise SystemExit(f"not all {options.pages:,} pages were fetched by {', '.join(short)}")
    if len(rows) > 1:
        for name in list(rows)[1:]:
            ratio = rows["cpt-ray"]["pages_per_cpu_second"] / rows[name]["pages_per_cpu_second"]
            console.print(f"{ratio:.1f} times the pages per CPU second of {name}")
        about = {"machine": machine(), "pages": options.pages, "bytes": size, "crawlers": rows}
        RESULT.write_text(json.dumps(about, indent=2) + "\n")
        console.print(f"written to {RESULT.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
