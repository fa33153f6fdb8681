"""From archived pages to documents: main text, language, quality.

One WARC (or ARC) file is one shard. Every record is accounted for: under "records" whether it is a page, under
"documents" whether the page became a document.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from cpt_ray.artifacts import Ledger, Sampler, Stage
from cpt_ray.web.archive import Place, read_archive, read_at
from cpt_ray.web.content import decode, is_html, trap
from cpt_ray.web.filters import Document
from cpt_ray.web.language import identify
from cpt_ray.web.options import ExtractOptions, NetworkOptions
from cpt_ray.web.page import Page, noindex, read_page, tidy
from cpt_ray.web.quality import quality
from cpt_ray.web.record import Record
from cpt_ray.web.remote import Remote
from cpt_ray.web.url import normalise, origin
from cpt_ray.words import text_hash

DOCUMENTS = pa.schema(
    [
        ("doc_id", pa.string()),
        ("url", pa.string()),
        ("host", pa.string()),
        ("group", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("quality", pa.float32()),
        ("classifier_score", pa.float32()),
        ("content_hash", pa.uint64()),
        ("warc_file", pa.string()),
        ("warc_offset", pa.int64()),
        ("status", pa.int32()),
        ("content_type", pa.string()),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""`doc_id`: xxh3_128 of url, newline, text. `group`: what splits go by. `text`: blocks separated by an empty line.
`classifier_score`: of the filter `classifier`, null without one.
`content_hash`: xxh3_64 of the text with whitespace collapsed. `warc_file` (name without folder) and `warc_offset`
(bytes) say where the page stands."""

_NETWORK = NetworkOptions()


def extract_shard(
    shard: Mapping[str, Any], options: ExtractOptions, network: NetworkOptions = _NETWORK
) -> tuple[pa.Table, Ledger]:
    """The documents of one archive, `{"warc": path}`, or of some records, `{"records": [[path, offset, length], ...]}`,
    sorted by URL; each URL once, the latest capture that is one.

    Pages are judged one by one as they are read, and only what becomes of them is held. A URL in several archives has a
    document for each (`dedup.clean_documents` keeps the latest).
    """
    records: Counter[str | None] = Counter()
    documents: Counter[str | None] = Counter()
    rows: dict[str, dict[str, Any]] = {}
    dropped = Sampler()
    for record in _records(shard, options.max_html_bytes, Remote(network)):
        reason, url = _page(record, options)
        if reason is not None:
            records[reason] += 1
            dropped.add("records", reason, place(record), url=record.url, type=record.content_type)
            continue
        row, reason, page = document(record, url, options)
        if row is None:
            documents[reason] += 1
            dropped.add("documents", reason or "", place(record), url=url, title=page.title, text=page.text)
        elif url not in rows:
            rows[url] = row
        else:
            records["older_capture"] += 1
            older, rows[url] = sorted((rows[url], row), key=_age)
            dropped.add("records", "older_capture", f"{older['warc_file']}:{older['warc_offset']}", url=url)
            continue
        records[None] += 1
    documents[None] = len(rows)
    table = pa.Table.from_pylist([rows[url] for url in sorted(rows)], schema=DOCUMENTS)
    ledger = Ledger.count("records", records.elements()) + Ledger.count("documents", documents.elements())
    return table, ledger.showing(dropped)


def _records(shard: Mapping[str, Any], max_bytes: int, remote: Remote) -> Iterator[Record]:
    if "warc" in shard:
        yield from read_archive(shard["warc"], max_bytes=max_bytes, remote=remote)
        return
    for path, several in itertools.groupby(shard["records"], key=lambda one: one[0]):
        yield from read_at(
            path, [Place(offset, length) for _, offset, length in several], max_bytes=max_bytes, remote=remote
        )


class Judged(NamedTuple):
    """What became of a page: its row, or None and the reason it has none; and what was read of it."""

    row: dict[str, Any] | None
    reason: str | None
    page: Page


def judge(record: Record, options: ExtractOptions) -> Judged:
    """What becomes of any record: a page is judged by `document`, another has the reason that it is none."""
    reason, url = _page(record, options)
    return document(record, url, options) if reason is None else Judged(None, reason, Page())


def place(record: Record) -> str:
    """Where a record stands, as file:offset."""
    return f"{record.file}:{record.offset}"


def document(record: Record, url: str, options: ExtractOptions) -> Judged:
    """The row of a page, or why it has none. Pure."""
    if record.kind == "conversion":
        page = Page(text=plain_text(record.body))
    else:
        html = decode(record.body, record.charset)
        if reason := trap(html):
            return Judged(None, reason, Page())
        page = read_page(html)
        if options.obey_noindex and (page.noindex or noindex(record.headers.get("x-robots-tag", ""))):
            return Judged(None, "noindex", page)
    text = page.text
    if not text:
        return Judged(None, "no_text", page)
    language, certainty = identify(text)
    if options.languages and language not in options.languages:
        return Judged(None, "language", page)
    if certainty < options.min_language_score:
        return Judged(None, "language_uncertain", page)
    judged = quality(text, options.quality)
    if judged.reason is not None:
        return Judged(None, judged.reason, page)
    seen = Document(url, page.title, text, language)
    for one in options.filters:
        if reason := one.reason(seen):
            return Judged(None, reason, page)
        seen = one.changed(seen)
    text = seen.text
    host = origin(url).host
    row = {
        "doc_id": xxhash.xxh3_128_hexdigest(f"{url}\n{text}".encode()),
        "url": url,
        "host": host,
        "group": _group(options.group_pattern, url) or host,
        "title": seen.title,
        "text": text,
        "language": language,
        "language_score": certainty,
        "quality": judged.score,
        "classifier_score": seen.score,
        "content_hash": text_hash(text),
        "warc_file": record.file,
        "warc_offset": record.offset,
        "status": record.status,
        "content_type": record.content_type,
        "fetched_at": record.fetched_at,
    }
    return Judged(row, None, page)


def plain_text(body: bytes) -> str:
    """The text of a WET record: a block to a line, as Common Crawl writes it."""
    lines = (" ".join(line.split()) for line in tidy(body.decode("utf-8", "replace")).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _page(record: Record, options: ExtractOptions) -> tuple[str | None, str]:
    """None and the normalised URL if the record is a page, else the reason it is none."""
    if record.reason is not None:
        return record.reason, ""
    if record.kind == "conversion" and record.content_type != "text/plain":
        return "not_text", ""
    if record.kind not in ("response", "resource", "conversion"):
        return f"record_{record.kind or 'unknown'}", ""
    if not 200 <= record.status < 300:
        return f"status_{record.status}", ""
    if record.kind != "conversion" and not is_html(record.content_type, record.body):
        return "not_html", ""
    if record.cut and not options.keep_truncated:
        return "cut_by_crawler", ""
    url = normalise(record.url)
    return (None, url) if url else ("bad_url", "")


def _age(row: Mapping[str, Any]) -> tuple[datetime, int]:
    return row["fetched_at"] or datetime.min.replace(tzinfo=UTC), row["warc_offset"]


def _group(pattern: str, url: str) -> str:
    found = _compiled(pattern).search(url) if pattern else None
    return (found[1] or "") if found else ""


@lru_cache(maxsize=8)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


EXTRACT = Stage("documents", version=9, gives=DOCUMENTS, unit="records", run=extract_shard)
