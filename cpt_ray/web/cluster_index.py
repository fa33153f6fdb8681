"""The upper level of Common Crawl's index: `cluster.idx` says in which blocks of the `cdx-*.gz` beside it a domain may be.

A line has, apart by tabs, the key of a block's first entry (`org,example)/path 20260102000000`), the file, offset and
length of the block, and its number; lines and entries are sorted by their bytes, and a block is a gzip member of mostly
3,000 entries (pywb calls it ZipNum). Of a list of 140 MB some twenty pieces are read to find a domain.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from cpt_ray.errors import UserError
from cpt_ray.web.remote import Remote, base_name, opened

NAME = "cluster.idx"
_PIECE = 64 << 10
"""Bytes of the list that are read at a time."""
_MOST = 16 << 20
"""Blocks that follow each other are read as one up to so many bytes."""
_WWW = re.compile(r"www\d*\.")


def whole_files(files: Sequence[str]) -> list[str]:
    """The files of an index without those that a `cluster.idx` beside them leads to."""
    folders = {posixpath.dirname(name) for name in files if base_name(name) == NAME}
    return [name for name in files if base_name(name) == NAME or posixpath.dirname(name) not in folders]


def shards(files: Sequence[str], domains: Sequence[str], remote: Remote) -> list[dict[str, Any]]:
    """`{"index": path}` of each file; of a `cluster.idx` `{"index": path, "blocks": [[offset, length], ...]}` of each file
    that it leads to, with the blocks in which one of the domains may be (without domains: all)."""
    found: list[dict[str, Any]] = []
    for name in files:
        if base_name(name) == NAME:
            blocks = _blocks(name, domains, remote)
            beside = posixpath.dirname(name)
            led = [{"index": posixpath.join(beside, file), "blocks": _joined(blocks[file])} for file in sorted(blocks)]
            found += led or [{"index": name, "blocks": []}]
        else:
            found.append({"index": name})
    return found


def _blocks(path: str, domains: Sequence[str], remote: Remote) -> dict[str, set[tuple[int, int]]]:
    """Offset and length of the blocks by file."""
    found: dict[str, set[tuple[int, int]]] = {}
    wanted = [span for domain in domains for span in spans(domain)] if domains else [(b"", b"\xff")]
    try:
        with opened(path, remote, ahead=_PIECE) as source:
            for low, high in wanted:
                for line in _between(source, low, high):
                    _, file, offset, length, *_ = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
                    found.setdefault(file, set()).add((int(offset), int(length)))
    except (OSError, ValueError) as error:
        raise UserError(f"this index cannot be read: {error}", where=path, fix="fetch it again") from error
    return found


def spans(domain: str) -> Iterator[tuple[bytes, bytes]]:
    """[low, high) of the keys that a domain and the hosts below it have; others may lie between.

    A key has the parts of a host in turned order, apart by commas, without `www.`; an address is as it is.
    """
    turned = ",".join(reversed(domain.split(".")))
    # Behind a host there is a bracket or a port, behind a domain a comma and more of the host.
    starts = [f"{turned})", f"{turned}:", f"{turned},"]
    for host in [_WWW.sub("", domain, count=1)] if _WWW.match(domain) else [domain] if turned[-1].isdigit() else []:
        bare = domain if host == domain else ",".join(reversed(host.split(".")))
        starts += [f"{bare})", f"{bare}:"]
    for start in starts:
        yield start.encode(), start[:-1].encode() + bytes([ord(start[-1]) + 1])


def _between(source: BinaryIO, low: bytes, high: bytes) -> Iterator[bytes]:
    """Lines of blocks that may hold a key in [low, high): those that begin with one, and the one before."""
    lines = io.BufferedReader(cast(io.RawIOBase, source), _PIECE)
    try:
        lines.seek(_last_below(lines, low))
        before = b""
        for line in lines:
            if not line.strip():
                continue
            if line < low:
                before = line
                continue
            if before:
                yield before
                before = b""
            if line >= high:
                return
            yield line
        if before:
            yield before
    finally:
        lines.detach()


def _last_below(lines: BinaryIO, low: bytes) -> int:
    """Where a line begins that stands before all that are `low` or more, and not far from them."""
    start, end = 0, lines.seek(0, io.SEEK_END)
    while end - start > _PIECE:
        middle = (start + end) // 2
        lines.seek(middle)
        begins = middle + len(lines.readline())
        if begins < end and lines.readline() < low:
            start = begins
        else:
            end = middle if begins >= end else begins
    return start


def _joined(blocks: set[tuple[int, int]]) -> list[list[int]]:
    """Spans sorted, with those that touch taken together."""
    runs: list[list[int]] = []
    for offset, length in sorted(blocks):
        if runs and sum(runs[-1]) == offset and runs[-1][1] + length <= _MOST:
            runs[-1][1] += length
        else:
            runs.append([offset, length])
    return runs
