"""ARC 1 and 2, the Internet Archive's format before WARC (https://archive.org/web/researcher/ArcFileFormat.php)."""

from __future__ import annotations

import re

from cpt_ray.web.container import LONGEST_HEAD, Stream
from cpt_ray.web.record import Damage, Record, date, response

ENDINGS = (".arc",)
BEGUN = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*(:[^\n]*)?")
START = re.compile(rb"(?<![^\n])[A-Za-z][A-Za-z0-9+.-]{1,20}:[^\n]{0,4096}? [0-9A-Fa-f.:-]+ \d{12,18} [^\n]*\n")
_LINE = re.compile(rb"\r?\n")
_FIELDS = re.compile(
    r"(?P<url>\S.*?) (?P<ip>[0-9A-Fa-f.:-]+) (?P<date>\d{12,18}) (?P<rest>.* )?(?P<length>-?\d{1,18})\s*"
)
_PREAMBLE = re.compile(rb"\r?\n(?:\r?\n)+")


def read(stream: Stream, name: str, max_bytes: int) -> Record | None:
    """The record the stream stands before, None at the end; an HTTP response has the kind "response"."""
    if not stream.begin():
        return None
    line = stream.head(_LINE, BEGUN)
    offset = stream.offset
    if line.startswith(b"filedesc:") and b" -1" in line:
        stream.head(_PREAMBLE, BEGUN)  # a length that was never filled in
        return Record(name, offset, "warcinfo")
    found = _FIELDS.fullmatch(line.decode("utf-8", "replace"))
    if found is None or found["length"].startswith("-"):
        raise Damage("malformed")
    url, length = found["url"], int(found["length"])
    stamp = found["date"].ljust(14, "0")
    fetched_at = date(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:12]}:{stamp[12:14]}Z")
    kind = "response" if re.match(r"https?:", url, re.I) else "warcinfo" if url.startswith("filedesc:") else "resource"
    block, reason = stream.block(length, max_bytes + LONGEST_HEAD, kind=kind, url=url, fetched_at=fetched_at)
    if reason is not None:
        return Record(name, offset, kind, url, fetched_at=fetched_at, reason=reason)
    if kind != "response":
        return Record(name, offset, kind, url, fetched_at=fetched_at)
    return response(name, offset, url, block, fetched_at, max_bytes)
