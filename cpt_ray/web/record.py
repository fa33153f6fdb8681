"""One record of an archive, whatever format it came in, and the parts that formats share: HTTP messages and dates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cpt_ray.web.content import BodyError, charset, dechunk, media_type, sniff, unpack


@dataclass(frozen=True)
class Record:
    """One record of an archive. `reason` is None if it is sound, else why nothing can be had from it.

    `kind` is the WARC record type ("response", "request", ...; "" where it could not be read). `status` is the HTTP
    status (0 without one), `headers` by lower-case name, `body` unpacked. `file` and `offset` (bytes, in the compressed
    file) say where it stands. `cut`: the crawler kept the beginning of the body alone (WARC-Truncated).
    """

    file: str
    offset: int
    kind: str = ""
    url: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fetched_at: datetime | None = None
    reason: str | None = None
    cut: bool = False

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters."""
        return media_type(self.headers.get("content-type", ""))

    @property
    def charset(self) -> str | None:
        """The charset the Content-Type header declares, as Python calls it."""
        return charset(self.headers.get("content-type", ""))


class Damage(Exception):
    """An archive cannot be read as records from here on; `known` is what the present one's header told before."""

    def __init__(self, reason: str, **known: object) -> None:
        super().__init__(reason)
        self.reason, self.known = reason, known


_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r?\n(?![ \t])")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LISTS = ("x-robots-tag", "transfer-encoding", "content-encoding")
"""Headers whose values are lists, which may be cut into several (RFC 9110 section 5.3)."""
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})\b")
_INTERIM = re.compile(rb"HTTP/\d(?:\.\d)?\s+1\d\d\b")


def fields(head: bytes, encoding: str) -> list[tuple[str, str]]:
    """The named fields of a head, without its first line; a folded value (RFC 9112 section 5.2) is one line."""
    lines = [_FOLD.sub(b" ", line).decode(encoding, "replace") for line in _LINE_END.split(head)[1:]]
    return [
        (key.strip().lower(), value.strip()) for key, colon, value in (line.partition(":") for line in lines) if colon
    ]


def response(file: str, offset: int, url: str, block: bytes, fetched_at: datetime | None, max_bytes: int) -> Record:
    """The record of an HTTP response as archived.

    The first of several headers of one name counts, except for Content-Type (the last that is a media type, as browsers
    have it) and lists (all of them). A response without a type gets the one its body shows. What was said before the
    answer (1xx, RFC 9110 section 15.2) is none.
    """
    at, end = 0, _HEAD_END.search(block)
    while end and _INTERIM.match(block, at) and _STATUS.match(block, end.end()):
        at = end.end()
        end = _HEAD_END.search(block, at)
    head, body = (block[at : end.start()], block[end.end() :]) if end else (block[at:], b"")
    status = _STATUS.match(head)
    headers: dict[str, str] = {}
    types: list[str] = []
    for key, value in fields(head, "latin-1"):
        if key == "content-type":
            types.append(value)
        elif key in _LISTS and key in headers:
            headers[key] += f", {value}"
        else:
            headers.setdefault(key, value)
    reason = None if status else "no_http_status"
    try:
        transfer = [part.strip().lower() for part in headers.get("transfer-encoding", "").split(",")]
        if "chunked" in transfer:
            body = dechunk(body)
        body = unpack(body, ",".join(part for part in transfer if part != "chunked"), max_bytes)
        body = unpack(body, headers.get("content-encoding", ""), max_bytes)
    except BodyError as error:
        reason, body = reason or error.reason, b""
    headers["content-type"] = declared_type(types) or sniff(body)
    return Record(file, offset, "response", url, int(status[1]) if status else 0, headers, body, fetched_at, reason)


def declared_type(values: Iterable[str]) -> str:
    """The media type of a response with its charset (the Fetch Standard's "extract a MIME type"); "" if none is known."""
    found = ""
    for value in (part for one in values for part in one.split(",")):
        essence = media_type(value)
        if essence and essence not in ("*/*", "unknown/unknown", "application/unknown"):
            same = media_type(found) == essence and charset(value) is None
            found = found if same else value
    return found


_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?)?)?)?\s*(Z|z|[+-]\d\d:?\d\d)?"
)


def date(text: str) -> datetime | None:
    """A WARC-Date: W3C's date and time to any precision (WARC 1.1 section 5.4); without a zone it is UTC."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    clock = f"{hour or '00'}:{minute or '00'}:{second or '00'}{(fraction or '')[:7]}"
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        return datetime.fromisoformat(f"{year}-{month or '01'}-{day or '01'}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
