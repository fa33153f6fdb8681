"""From the bytes on the wire to text: content codings with a size limit, and the character encoding."""

from __future__ import annotations

import codecs
import io
import re
import zlib

from fastwarc.stream_io import BrotliReader, ZstdReader
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5


class BodyError(ValueError):
    """A body that cannot be unpacked; `reason` is the ledger's name for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def unpack(body: bytes, coding: str, max_bytes: int) -> bytes:
    """Undo a Content-Encoding (RFC 9110 section 8.4). Raises BodyError "bad_encoding" or "too_large".

    A body that is not packed although the header says so is passed on as it is: archives are full of those, because
    crawlers unpack and keep the header.
    """
    for name in reversed([part.strip().lower() for part in coding.split(",") if part.strip()]):
        if name in ("gzip", "x-gzip"):
            body = _inflate(body, zlib.MAX_WBITS | 16, max_bytes) if body.startswith(b"\x1f\x8b") else body
        elif name == "deflate":
            # "deflate" should be zlib; some servers send it bare.
            packed = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
            body = _inflate(body, zlib.MAX_WBITS if packed else -zlib.MAX_WBITS, max_bytes)
        elif name in ("br", "zstd"):
            body = _read(BrotliReader if name == "br" else ZstdReader, body, max_bytes)
        elif name != "identity":
            raise BodyError("bad_encoding")
    if len(body) > max_bytes:
        raise BodyError("too_large")
    return body


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    inflate = zlib.decompressobj(window)
    try:
        plain = inflate.decompress(body, max_bytes + 1)
    except zlib.error:
        raise BodyError("bad_encoding") from None
    if len(plain) > max_bytes:
        raise BodyError("too_large")
    if not inflate.eof:
        raise BodyError("truncated")
    return plain


def _read(reader: type, body: bytes, max_bytes: int) -> bytes:
    try:
        plain = reader(io.BytesIO(body)).read(max_bytes + 1)
    except (OSError, ValueError):
        raise BodyError("bad_encoding") from None
    return bytes(plain)


def dechunk(body: bytes) -> bytes:
    """Undo Transfer-Encoding: chunked (RFC 9112 section 7.1); a body that is not chunked is returned as is."""
    plain: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        size_text = body[at:end].split(b";", 1)[0].strip() if end >= 0 else b""
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text):
            return b"".join(plain) if plain else body
        size = int(size_text, 16)
        if size == 0:
            return b"".join(plain)
        plain.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size
        at += 2 if body[at : at + 2] == b"\r\n" else 0


def charset(content_type: str) -> str | None:
    """The Python name of the charset a Content-Type header declares, None if it declares none that exists."""
    match = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.I)
    if match is None:
        return None
    # WHATWG: what calls itself latin-1 is windows-1252 on the web
    name = map_encoding_to_html5(match[1], fallback_utf8=False)
    try:
        return codecs.lookup(name).name if name else None
    except LookupError:
        return None


def decode(body: bytes, declared: str | None) -> str:
    """The text of an HTML body: by BOM, the declared charset, <meta charset>, then detection. Never fails.

    Undecodable bytes become U+FFFD; the result can always be written as UTF-8.
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if body.startswith(mark):
            return body.decode(name, "replace")
    if declared == "utf-8":
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            return body.decode("utf-8", "replace")
    name = declared or detect_encoding(body, from_html_meta=True) or "utf-8"
    return str(bytes_to_str(body, name, errors="replace"))


_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)")
# Elements that never contain others, or that the next of their kind closes: they do not nest.
_FLAT = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
    | {"p", "li", "option", "optgroup", "tr", "td", "th", "thead", "tbody", "tfoot", "dd", "dt", "colgroup"}
    | {"body", "html", "head"}
)
_FEW_TAGS = 3000
MAX_DEPTH = 500
MAX_ATTRIBUTES = 1000


def trap(html: str) -> str | None:
    """Why a page must not reach the HTML parser, None for nearly all pages.

    Parsing and extraction take time quadratic in the depth of nesting and in the attributes of one element, in native
    code that no time limit can interrupt: 30,000 nested elements, 150 kB, keep it busy for a minute. Browsers stop at
    512 levels themselves. Pages with few tags cannot hurt and are not looked at.
    """
    if html.count("<") < _FEW_TAGS and len(html) < 100_000:
        return None
    depth = 0
    for match in _TAG.finditer(html):
        if match.end(3) - match.start(3) > MAX_ATTRIBUTES and len(match[3].split()) > MAX_ATTRIBUTES:
            return "too_many_attributes"
        if match[2].lower() in _FLAT or match[3].endswith("/"):
            continue
        depth = max(0, depth - 1) if match[1] else depth + 1
        if depth > MAX_DEPTH:
            return "nested_too_deep"
    return None
