"""From the bytes on the wire to text: content codings with a size limit, media types, and the character encoding."""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import zstandard
from fastwarc.stream_io import BrotliReader
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from cpt_ray.web.kernels import names_of, trapped


class BodyError(ValueError):
    """A body that cannot be unpacked; `reason` is the ledger's name for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def unpack(body: bytes, coding: str, max_bytes: int) -> bytes:
    """Undo a Content-Encoding (RFC 9110 section 8.4). Raises BodyError "bad_encoding", "truncated" or "too_large".

    A body that is not packed although the header says so is passed on as it is: archives are full of those, because
    crawlers unpack and keep the header. So is one whose coding is no coding ("none", "utf-8"). One that is packed, and not
    as the header says, is unpacked as its first bytes say.
    """
    names = [part.partition(";")[0].strip().lower() for part in coding.split(",")]
    for name in reversed([name for name in names if name]):
        if name in _NO_CODINGS or codec_of(name):
            continue
        try:
            body = _unpacked(body, name, max_bytes)
        except BodyError as error:
            if error.reason == "too_large" or not _is_markup(body):
                raise
    if len(body) > max_bytes:
        raise BodyError("too_large")
    return body


def _unpacked(body: bytes, name: str, max_bytes: int) -> bytes:
    try:
        if name not in _UNPACKERS:
            raise BodyError("bad_encoding")
        return _UNPACKERS[name](body, max_bytes)
    except BodyError as error:
        other = _UNPACKERS.get(_told(body))
        if error.reason != "bad_encoding" or other is None:
            raise
        return other(body, max_bytes)


def _told(body: bytes) -> str:
    """The coding that a body begins as, "" where none tells."""
    if body.startswith(_GZIP):
        return "gzip"
    if body.startswith(_ZSTD):
        return "zstd"
    return "deflate" if _is_zlib(body) else ""


def _is_zlib(body: bytes) -> bool:
    """RFC 1950: the method is 8, and the first two bytes are a multiple of 31."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_NO_CODINGS = ("identity", "none", "null", "no", "binary", "7bit", "8bit", "text", "plain")
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def _is_markup(body: bytes) -> bool:
    """Whether bytes read as HTML or XML as they are: what is packed has control characters all over."""
    return re.search(rb"<[a-zA-Z!?/]", body[:4096]) is not None and _CONTROLS.search(body[:4096]) is None


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    """All members of a gzip body; behind the first, what is none is padding."""
    if not body.startswith(_GZIP):
        if _CONTROLS.search(body[:4096]) is not None:
            raise BodyError("bad_encoding")
        return body
    plain = b""
    while body.startswith(_GZIP):
        piece, body = _inflate(body, zlib.MAX_WBITS | 16, max_bytes - len(plain))
        plain += piece
    return plain


def _deflate(body: bytes, max_bytes: int) -> bytes:
    # "deflate" should be zlib; some servers send it bare.
    return _inflate(body, zlib.MAX_WBITS if _is_zlib(body) else -zlib.MAX_WBITS, max_bytes)[0]


def _inflate(body: bytes, window: int, max_bytes: int) -> tuple[bytes, bytes]:
    """(content, what stands behind it)."""
    inflate = zlib.decompressobj(window)
    try:
        plain = inflate.decompress(body, max_bytes + 1)
    except zlib.error:
        raise BodyError("bad_encoding") from None
    if len(plain) > max_bytes:
        raise BodyError("too_large")
    if not inflate.eof:
        raise BodyError("truncated")
    return plain, inflate.unused_data


def _brotli(body: bytes, max_bytes: int) -> bytes:
    try:
        return bytes(BrotliReader(io.BytesIO(body)).read(max_bytes + 1))
    except (OSError, ValueError):
        raise BodyError("bad_encoding") from None


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    """RFC 8878: frames of a window of 8 MB at most (RFC 9659), 128 MB allowed."""
    plain = b""
    rest = body
    while rest:
        frame = zstandard.ZstdDecompressor(max_window_size=128 << 20).decompressobj()
        while rest and not frame.eof:
            try:
                # In small pieces: a block of 128 KiB takes four bytes.
                plain += frame.decompress(rest[:1024])
            except zstandard.ZstdError:
                raise BodyError("bad_encoding") from None
            if len(plain) > max_bytes:
                raise BodyError("too_large")
            rest = (frame.unused_data if frame.eof else b"") + rest[1024:]
        if not frame.eof:
            raise BodyError("truncated" if body.startswith(_ZSTD) else "bad_encoding")
    return plain


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _unzstd,
}


def dechunk(body: bytes) -> bytes:
    """Undo Transfer-Encoding: chunked (RFC 9112 section 7.1); a body that is not chunked is returned as is.

    Raises BodyError "bad_chunks" where a size is none, "truncated" where a chunk is cut off. A missing last chunk is
    forgiven.
    """
    plain: list[bytes] = []
    at = 0
    while at < len(body):
        end = body.find(b"\n", at)
        size_text = body[at:end].split(b";", 1)[0].strip() if end >= 0 else body[at:].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text) or end < 0:
            if plain and size_text:
                raise BodyError("bad_chunks")
            return b"".join(plain) if plain else body
        size = int(size_text, 16)
        if size == 0:
            break
        if end + 1 + size > len(body):
            raise BodyError("truncated")
        plain.append(body[end + 1 : end + 1 + size])
        at = end + 1 + size
        at += 2 if body[at : at + 2] == b"\r\n" else 1 if body[at : at + 1] == b"\n" else 0
    return b"".join(plain)


# --- media types ------------------------------------------------------------------------------------------------------

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})")


def media_type(content_type: str) -> str:
    """The media type a Content-Type header begins with, in lower case, whatever follows it; "" if there is none."""
    match = _MEDIA_TYPE.match(content_type)
    return match[1].lower() if match else ""


# MIME Sniffing Standard, section 7.1: an element of these, after blanks, before a blank or ">", is HTML.
_HTML_START = re.compile(
    rb"[\t\n\f\r ]*(?:<(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P)[ >]|<!--)",
    re.IGNORECASE,
)
_XML_START = re.compile(rb"[\t\n\f\r ]*<\?xml")
_SNIFFED = 1445


def sniff(body: bytes) -> str:
    """What a body without a Content-Type is, of the types that matter here: HTML, XML, text, or something else.

    The rules for an unknown type of the WHATWG MIME Sniffing Standard.
    """
    head = body[:_SNIFFED]
    if _HTML_START.match(head):
        return "text/html"
    if _XML_START.match(head):
        return "text/xml"
    if head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "text/plain"
    binary = _CONTROLS.search(head) or head.startswith((b"%PDF-", b"%!PS-Adobe-"))
    return "application/octet-stream" if binary else "text/plain"


HTML = ("text/html", "application/xhtml+xml")
"""Media types of pages."""
XML = ("application/xml", "text/xml")
_XHTML_ROOT = re.compile(rb"""<html\b[^>]*\sxmlns\s*=\s*["']http://www\.w3\.org/1999/xhtml["']""")


def is_html(kind: str, body: bytes) -> bool:
    """Whether a body of this media type is a page: HTML, or XML whose root is XHTML's, which browsers show as one."""
    return kind in HTML or (kind in XML and _XHTML_ROOT.search(body[:_SNIFFED]) is not None)


# --- characters -------------------------------------------------------------------------------------------------------

# Python's codecs that know fewer characters than the encoding of that name in the WHATWG Encoding Standard, and wider ones.
_WIDER = {
    "euc_kr": "cp949",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "euc_jp": "euc_jis_2004",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
}
_UNKNOWN = {"iso-8859-8-i": "iso8859-8", "x-mac-cyrillic": "mac_cyrillic", "x-user-defined": "cp1252"}


@cache
def codec_of(label: str) -> str | None:
    """The Python name of the encoding that a WHATWG label stands for."""
    name = map_encoding_to_html5(label.strip(), fallback_utf8=False)
    try:
        known = codecs.lookup(_UNKNOWN.get(name.lower(), name)).name if name else None
    except LookupError:
        return None
    return _WIDER.get(known, known) if known else None


def charset(content_type: str) -> str | None:
    """The Python name of the charset a Content-Type header declares, None if it declares none that exists."""
    match = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", content_type, re.I)
    return codec_of(match[1]) if match else None


_COMMENT = re.compile(rb"<!--.*?(?:-->|$)", re.DOTALL)
_META = re.compile(rb"<meta[\s/][^>]*?charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"'>]+)")
_PRESCAN = 1024


def _declared_within(body: bytes) -> str | None:
    """The encoding that the first bytes of a page declare (the HTML Standard's prescan)."""
    head = _COMMENT.sub(b"", body[:_PRESCAN])
    found = _META.search(head) or _XML.match(head)
    name = codec_of(found[1].decode("latin-1")) if found else None
    # A page whose declaration can be read as ASCII is not in UTF-16.
    return "utf-8" if name and name.startswith("utf-16") else name


def decode(body: bytes, declared: str | None) -> str:
    """The text of an HTML body in its `encoding`. Never fails.

    Undecodable bytes become U+FFFD, one by one: a bad byte makes no other encoding of a page. The result can always be
    written as UTF-8.
    """
    name = encoding(body, declared)
    try:
        text = body.decode(name, "replace")
        # Of UTF-8 no half of a surrogate pair comes; of other encodings one might.
        return text if name.startswith("utf-8") else text.encode("utf-8", "replace").decode()
    except (LookupError, UnicodeError):
        return body.decode("utf-8", "replace")


def encoding(body: bytes, declared: str | None) -> str:
    """The codec of an HTML body: by BOM, the declared charset, <meta charset>, then detection. Python may not have it."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if body.startswith(mark):
            return name
    return declared or _declared_within(body) or _detected(body)


def _detected(body: bytes) -> str:
    """UTF-8 if most of what is not ASCII is, else what the detector says."""
    text = body.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if not bad or len(text) - sum(map(len, _ASCII.findall(text))) - bad > bad:
        return "utf-8"
    name = codec_of(detect_encoding(body) or "")
    return "cp1252" if name in (None, "utf-8", "ascii") else str(name)


_ASCII = re.compile("[\0-\x7f]+")


# --- what must not be parsed ------------------------------------------------------------------------------------------

# Elements that never contain others, or that the next of their kind closes: they do not nest.
_FLAT = names_of(
    """
    area base br col embed hr img input link meta param source track wbr p li option optgroup tr td th thead tbody tfoot
    dd dt colgroup body html head
    """.split()  # noqa: SIM905
)
_FEW_TAGS = 3000
MAX_DEPTH = 500
MAX_ATTRIBUTES = 10_000
"""Of one element, or of several as costly together: the sum of their squares counts."""
_LONG_TAG = 1000
_TRAPS = (None, "nested_too_deep", "too_many_attributes")


def trap(html: str) -> str | None:
    """Why a page must not reach the HTML parser, None for nearly all pages.

    Parsing and extraction take time quadratic in the depth of nesting and in the attributes of one element, in native
    code that no time limit can interrupt: 30,000 nested elements, 150 kB, keep it busy for a minute. Browsers stop at
    512 levels themselves. Pages with few tags cannot hurt and are not looked at.
    """
    if html.count("<") < _FEW_TAGS and len(html) < 100_000:
        return None
    # What stands in quotes is a value, and may be a page of its own; scripts have what looks like long tags.
    found = trapped(np.frombuffer(html.encode(), np.uint8), _FLAT, MAX_DEPTH, _LONG_TAG, MAX_ATTRIBUTES**2)
    return _TRAPS[found]
