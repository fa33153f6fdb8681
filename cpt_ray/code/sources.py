"""Bytes of a source file as UTF-8, the way the language itself reads them."""

from __future__ import annotations

import codecs
import re

_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"[ \t\f]*(?:#[^\r\n]*)?\r?$")
# Only encodings of text that come with Python: a cookie may name any codec, zlib included.
_KNOWN = re.compile(
    r"(?:latin-?1|iso-?8859-?\d{1,2}|cp\d{3,4}|windows-?125\d|koi8-[rtu]|gb(?:k|2312|18030)|big5(?:hkscs)?|shift-?jis|sjis"
    r"|euc-?(?:jp|kr)|iso-?2022-?jp|utf-?(?:16|32)|mac-?roman)"
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), *((m, "utf-16") for m in _UTF16))


def to_utf8(data: bytes, language: str = "python") -> bytes | None:
    """`data` as UTF-8 with `\\n` or `\\r\\n` for line ends; None where it is text by no rule.

    In order: UTF-8 as it is; a UTF-16 or UTF-32 byte order mark; the cookie of PEP 263 in the first two lines; for
    languages other than Python, which refuses it, Windows-1252 where every byte is a character of it.
    Byte offsets in a file that had to be converted count the converted bytes; its lines stay the same.
    """
    found = data if data.isascii() or _is_utf8(data) else _converted(data, language)
    if found is not None and b"\r" in found and b"\n" not in found:
        return found.replace(b"\r", b"\n")
    return found


def _converted(data: bytes, language: str) -> bytes | None:
    name = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None) or _cookie(data)
    if name is None and language != "python" and b"\0" not in data:
        name = "windows-1252"
    if name is None or not _KNOWN.fullmatch(name):
        return None
    try:
        return data.decode(name).encode("utf-8")
    except (LookupError, UnicodeError):
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _cookie(data: bytes) -> str | None:
    for line in data.split(b"\n", 2)[:2]:
        found = _COOKIE.match(line)
        if found is not None:
            return found.group(1).decode("ascii", "replace").lower().replace("_", "-")
        if not _BLANK.match(line):
            return None
    return None
