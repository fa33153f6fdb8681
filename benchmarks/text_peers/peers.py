"""datatrove's way from WARC or WET to filtered text, for benchmarks/text.py: prints {"seconds", "pages", "kept"} as JSON.

Its own pieces with their defaults: WarcReader, Trafilatura (in a process of its own; its limit of a second a page is raised,
so that a busy machine loses none), GopherRepetitionFilter, GopherQualityFilter; of WET all but Trafilatura.
Its language filter is left out: it fetches its model from the network.
CPU seconds are of this process and its children, after a run over a few pages, which is loading.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Iterator

from datatrove.data import Document
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import WarcReader
from datatrove.utils.logging import logger

logger.remove()
logging.disable(logging.CRITICAL)


def run(folder: str, kind: str, limit: int) -> tuple[int, int]:
    """(pages read, documents kept)."""
    pages = 0

    def counted(data: Iterator[Document]) -> Iterator[Document]:
        nonlocal pages
        for one in data:
            pages += 1
            yield one

    data = counted(WarcReader(folder, limit=limit).run(None))
    extracting = [Trafilatura(timeout=60)] if kind == "WARC" else []
    for step in (*extracting, GopherRepetitionFilter(), GopherQualityFilter()):
        data = step.run(data)
    kept = sum(1 for _ in data)
    return pages, kept


def cpu() -> float:
    """CPU seconds so far, of this process and of children that have ended."""
    return sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main(folder: str, kind: str) -> None:
    run(folder, kind, 3)
    loaded = cpu()
    pages, kept = run(folder, kind, -1)
    print(json.dumps({"seconds": cpu() - loaded, "pages": pages, "kept": kept}))


if __name__ == "__main__":
    main(*sys.argv[1:])
