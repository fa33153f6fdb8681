"""Which records of archives to read, by an index of them: CDX, CDXJ, or Common Crawl's columnar one (Parquet).

A shard is one file of the index, or those of its blocks that `cluster.idx` leads to. Its records that are asked for become
rows, of which the first `count` by the hash of their URLs are kept: what is chosen depends neither on the order of the
index nor on how it is cut. Of a columnar index the columns alone are read that are asked about, and of its row groups those
that may hold a domain.
"""

from __future__ import annotations

import gzip
import heapq
import io
import json
import posixpath
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from cpt_ray.artifacts import Ledger, Manifest, Sampler, Stage, fingerprint, read_table
from cpt_ray.artifacts.store import part_name, phases_of
from cpt_ray.errors import UserError
from cpt_ray.web import cluster_index
from cpt_ray.web.options import NetworkOptions, SelectOptions
from cpt_ray.web.remote import Remote, base_name, opened, window

SELECTED = pa.schema(
    [
        ("order", pa.uint64()),
        ("url", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
"""A record that is to be read; `order` is the xxh3_64 of its URL, `file` as the index names it, the rest in bytes."""

ENDINGS = (".cdx", ".cdxj", ".cdx.gz", ".cdxj.gz", ".parquet")
_COMMON_CRAWL = re.compile(r"cdx-\d+\.gz")
_CDX = {"a": "url", "m": "mime", "s": "status", "S": "length", "V": "offset", "g": "filename"}
"""Letters of a CDX header (https://archive.org/web/researcher/cdx_legend.php)."""
_USUAL = "N b a m s k r M S V g"


_BROKEN = (OSError, EOFError, zlib.error, ValueError, pa.ArrowException)
"""What a file that is not there, or is cut off or damaged, raises: gzip the first three, pyarrow the others and OSError."""


class Entry(NamedTuple):
    """A record as an index has it."""

    url: str
    host: str
    mime: str
    status: str
    languages: str
    file: str
    offset: int
    length: int


def is_index(path: str) -> bool:
    """Whether a file is an index, by its name."""
    name = base_name(path)
    return name.endswith(ENDINGS) or name == cluster_index.NAME or _COMMON_CRAWL.fullmatch(name) is not None


def reason(entry: Entry, options: SelectOptions) -> str | None:
    """Why a record is not asked for."""
    if options.domains and not any(entry.host == one or entry.host.endswith(f".{one}") for one in options.domains):
        return "domain"
    if options.status and entry.status not in map(str, options.status):
        return "status"
    if options.mime and entry.mime not in options.mime:
        return "mime"
    if options.languages and not set(entry.languages.split(",")) & set(options.languages):
        return "language"
    return None


def select_shard(shard: Mapping[str, Any], options: SelectOptions, network: NetworkOptions) -> tuple[pa.Table, Ledger]:
    """SELECTED of one file of an index, `{"index": path}`, or of `"blocks"` [offset, length] of it, by order and place."""
    counts: Counter[str | None] = Counter()
    dropped = Sampler()

    def wanted() -> Iterator[tuple[int, str, str, int, int]]:
        for entry in entries(shard["index"], options, Remote(network), shard.get("blocks")):
            if isinstance(entry, str):
                counts["malformed"] += 1
                dropped.add("entries", "malformed", entry, text=entry)
                continue
            if entry is _ELSEWHERE:
                counts["domain"] += 1
                continue
            why = reason(entry, options)
            if why is None:
                counts[None] += 1
                order = xxhash.xxh3_64_intdigest(entry.url.encode("utf-8", "replace"))
                yield order, entry.url, entry.file, entry.offset, entry.length
            else:
                counts[why] += 1
                dropped.add("entries", why, f"{entry.file}:{entry.offset}", url=entry.url)

    rows = heapq.nsmallest(options.count, wanted())
    counts["beyond_count"] = counts[None] - len(rows)
    counts[None] = len(rows)
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in SELECTED]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SELECTED, strict=True)], schema=SELECTED)
    return table, Ledger.count("entries", counts.elements()).showing(dropped)


def entries(
    path: str, options: SelectOptions, remote: Remote, blocks: Sequence[Sequence[int]] | None = None
) -> Iterator[Entry | str]:
    """The records of an index file, or of some blocks [offset, length] of one; a line (or row) that is none is given as
    text. UserError where the file cannot be read."""
    try:
        if blocks is not None:
            for offset, length in blocks:
                with window(path, offset, length, remote) as source:
                    yield from _lines(_unpacked(source))
            return
        with opened(path, remote, ahead=0 if path.endswith(".parquet") else 1 << 20) as source:
            if path.endswith(".parquet"):
                yield from _columnar(path, source, options)
            else:
                yield from _lines(_unpacked(source))
    except _BROKEN as error:
        raise UserError(f"this index cannot be read: {error}", where=path, fix="fetch it again") from error


def _unpacked(source: BinaryIO) -> Iterator[str]:
    begins = source.tell()
    packed = source.read(2) == b"\x1f\x8b"
    source.seek(begins)
    plain: Any = gzip.GzipFile(fileobj=source) if packed else source
    for line in io.BufferedReader(plain, 1 << 20):
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _lines(lines: Iterable[str]) -> Iterator[Entry | str]:
    letters = _USUAL.split()
    for line in lines:
        if line.lstrip().startswith("CDX "):
            letters = line.split()[1:]
            continue
        if not line.strip():
            continue
        brace = line.find("{")
        try:
            if brace >= 0:
                found = json.loads(line[brace:])
            else:
                values = line.split(" ")
                found = {_CDX[letter]: v for letter, v in zip(letters, values, strict=True) if letter in _CDX}
            yield _entry(found)
        except (ValueError, KeyError, TypeError, AttributeError):
            yield line


def _entry(found: Mapping[str, Any], host: str = "") -> Entry:
    """Of a record by the names of CDXJ; KeyError, TypeError or ValueError where it has no URL or no place."""
    url, file = found["url"], found["filename"]
    if not isinstance(url, str) or not isinstance(file, str):
        raise TypeError("no text")
    offset, length = int(found["offset"]), int(found["length"])
    if offset < 0 or length <= 0:
        raise ValueError("no place")
    host = (host or urlsplit(url).hostname or "").lower()
    mime = str(found.get("mime-detected") or found.get("mime") or "").lower()
    status = "" if found.get("status") is None else str(found["status"])
    return Entry(url, host, mime, status, str(found.get("languages") or ""), file, offset, length)


_COLUMNS = {
    "url": "url",
    "filename": "warc_filename",
    "offset": "warc_record_offset",
    "length": "warc_record_length",
    "status": "fetch_status",
    "mime-detected": "content_mime_detected",
    "mime": "content_mime_type",
    "languages": "content_languages",
}
"""Of a columnar index, by the names of CDXJ."""
_NEEDED = ("url", "filename", "offset", "length")
_HOST = "url_host_name"
_DOMAIN = "url_host_registered_domain"


def _columnar(path: str, source: BinaryIO, options: SelectOptions) -> Iterator[Entry | str]:
    """Entries of a columnar index (https://github.com/commoncrawl/cc-index-table)."""
    try:
        file = pq.ParquetFile(source, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise UserError(f"this is no Parquet file: {error}", where=path, fix="give an index of Common Crawl") from None
    names = file.schema_arrow.names
    if missing := [_COLUMNS[key] for key in _NEEDED if _COLUMNS[key] not in names]:
        raise UserError(f"this index has no column {missing[0]!r}", where=path, fix="give an index of Common Crawl")
    columns = [name for name in (_HOST, *_COLUMNS.values()) if name in names]
    for group in range(file.num_row_groups):
        if not _may_hold(file.metadata.row_group(group), options.domains):
            # Counted without being read: none of it is of a domain that is asked for.
            for _ in range(file.metadata.row_group(group).num_rows):
                yield _ELSEWHERE
            continue
        for batch in file.iter_batches(16_384, row_groups=[group], columns=columns, use_threads=False):
            for row in batch.to_pylist():
                try:
                    yield _entry({key: row.get(name) for key, name in _COLUMNS.items()}, row.get(_HOST) or "")
                except (ValueError, TypeError):
                    yield " ".join(map(str, row.values()))


_ELSEWHERE = Entry("", "", "", "", "", "", 0, 0)
"""An entry of a row group that no wanted domain can be in."""


def _may_hold(group: Any, domains: Iterable[str]) -> bool:
    """Whether the statistics of a row group leave room for one of the domains."""
    wanted = list(domains)
    if not wanted:
        return True
    for at in range(group.num_columns):
        column = group.column(at)
        if column.path_in_schema != _DOMAIN or column.statistics is None or not column.statistics.has_min_max:
            continue
        low, high = column.statistics.min, column.statistics.max
        # A domain that is asked for may lie below a registered one, or be one.
        ends = {".".join(parts[i:]) for parts in (one.split(".") for one in wanted) for i in range(len(parts))}
        return any(low <= end <= high for end in ends)
    return True


LIST = Stage("index_entries", version=1, gives=SELECTED, unit="entries", run=select_shard)
SELECT = Stage("selected", version=1, gives=SELECTED, unit="entries")


def select(path: str, files: Sequence[str], *, options: SelectOptions, network: NetworkOptions) -> Manifest:
    """Publish at `path` which records of all `files` of an index are to be read: SELECTED, by file and offset.

    What each file of the index gives stays in `<path>.phases`. Blocks that `cluster.idx` rules out are not read, nor counted.
    """
    remote = Remote(network)
    files = cluster_index.whole_files(files)
    listed = LIST.map(
        at := posixpath.join(phases_of(path), "index_entries"),
        params=options,
        inputs={"index": fingerprint([[name, _size(name, remote)] for name in files])},
        shards=cluster_index.shards(files, options.domains, remote),
        options=options,
        network=network,
    )
    with SELECT.build(path, params=options, inputs={"index_entries": listed}) as work:
        if work.manifest is not None:
            return work.manifest
        found = read_table(at).sort_by([(name, "ascending") for name in SELECTED.names])
        chosen = found.slice(0, options.count).sort_by([("file", "ascending"), ("offset", "ascending")])
        work.write(f"{part_name(0)}.parquet", chosen)
        beyond = {"beyond_count": len(found) - len(chosen)}
        ledger = listed.balance + Ledger.of("records", read=len(found), kept=len(chosen), dropped=beyond)
        return work.publish(ledger, rows=len(chosen), schema=SELECTED)


def _size(path: str, remote: Remote) -> int:
    with opened(path, remote, ahead=0) as source:
        return source.seek(0, io.SEEK_END)
