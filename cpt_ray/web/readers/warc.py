"""WARC 1.0 and 1.1 (ISO 28500), with WET: plain text of pages as `conversion` records."""

from __future__ import annotations

import re
from dataclasses import replace

from cpt_ray.web.container import LONGEST_HEAD, Stream
from cpt_ray.web.record import Damage, Record, date, fields, response

ENDINGS = (".warc", ".wet")
BEGUN = re.compile(rb"W(A(R(C(/.*)?)?)?)?", re.DOTALL)
START = re.compile(rb"WARC/[01]\.\d+\r?\n")
_HEAD = re.compile(rb"\r?\n\r?\n")
_VERSION = re.compile(rb"WARC/\d+\.\d+\r?\n")


def read(stream: Stream, name: str, max_bytes: int) -> Record | None:
    """The record the stream stands before, None at the end of the archive."""
    if not stream.begin():
        return None
    head = stream.head(_HEAD, BEGUN)
    named = dict(reversed(fields(head, "utf-8")))
    length_text = named.get("content-length", "")
    if not _VERSION.match(head) or not re.fullmatch(r"[0-9]{1,18}", length_text):
        raise Damage("malformed")
    offset, length = stream.offset, int(length_text)
    kind, url = named.get("warc-type", "").lower(), named.get("warc-target-uri", "").strip("<>")
    fetched_at = date(named.get("warc-date", ""))
    cut = bool(named.get("warc-truncated"))
    block, reason = stream.block(length, max_bytes + LONGEST_HEAD, kind=kind, url=url, fetched_at=fetched_at)
    if reason is not None:
        return Record(name, offset, kind, url, fetched_at=fetched_at, reason=reason)
    if "warc-segment-number" in named and kind == "response":
        return Record(name, offset, kind, url, fetched_at=fetched_at, reason="segmented")
    if kind in ("resource", "conversion"):
        headers = {"content-type": named.get("content-type", "")}
        return Record(name, offset, kind, url, 200, headers, block, fetched_at, cut=cut)
    if kind != "response":
        return Record(name, offset, kind, url, fetched_at=fetched_at)
    found = response(name, offset, url, block, fetched_at, max_bytes)
    return replace(found, cut=True) if cut else found
