"""Bytes of a source file as UTF-8, the way the language itself reads them."""

from __future__ import annotations

import re

_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"[ \t\f]*(?:#[^\r\n]*)?\r?$")
# Only encodings of text that come with Python: a cookie may name any codec, zlib included.
_KNOWN = re.compile(
    r"(?:latin-?1|iso-?8859-?\d{1,2}|cp\d{3,4}|windows-?125\d|koi8-[rtu]|gb(?:k|2312|18030)|big5(?:hkscs)?|shift-?jis|sjis"
    r"|euc-?(?:jp|kr)|iso-?2022-?jp|utf-?16|mac-?roman)"
)


def to_utf8(data: bytes) -> bytes | None:
    """`data` as UTF-8: as it is, else converted by the cookie of PEP 263 in its first two lines; None if neither works.

    Byte offsets in a file that had to be converted count the converted bytes; its lines stay the same.
    """
    if data.isascii() or _is_utf8(data):
        return data
    name = _cookie(data)
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
