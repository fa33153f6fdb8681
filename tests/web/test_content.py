"""From bytes to text."""

from __future__ import annotations

import gzip
import re
import time
import zlib
from collections.abc import Callable

import brotli
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.web.content import MAX_DEPTH, BodyError, charset, dechunk, decode, trap, unpack
from cpt_ray.web.kernels import names_of, trapped

PLAIN = b"some words " * 50


def test_unpack() -> None:
    """Every coding, several in a row, and bodies that are not packed although the header says so."""
    bare = zlib.compressobj(wbits=-15)
    assert unpack(PLAIN, "", 10_000) == PLAIN
    assert unpack(PLAIN, "identity", 10_000) == PLAIN
    assert unpack(gzip.compress(PLAIN), "gzip", 10_000) == PLAIN
    assert unpack(zlib.compress(PLAIN), "Deflate", 10_000) == PLAIN
    assert unpack(bare.compress(PLAIN) + bare.flush(), "deflate", 10_000) == PLAIN
    assert unpack(gzip.compress(zlib.compress(PLAIN)), "deflate, gzip", 10_000) == PLAIN
    assert unpack(PLAIN, "gzip", 10_000) == PLAIN
    assert unpack(gzip.compress(PLAIN), "gzip;q=1.0", 10_000) == PLAIN


@pytest.mark.parametrize("named", ["gzip", "x-gzip", "deflate", "br", "zstd", "exotic"])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, zstandard.compress])
def test_a_body_is_unpacked_as_it_is_packed_whatever_the_header_says(
    named: str, pack: Callable[[bytes], bytes]
) -> None:
    """A proxy that packs anew and keeps the header: the first bytes tell gzip, zlib and zstd apart."""
    assert unpack(pack(PLAIN), named, 10_000) == PLAIN
    with pytest.raises(BodyError) as caught:
        unpack(pack(PLAIN * 1000), named, 10_000)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (gzip.compress(b"0" * 100_000_000, 9), "gzip", "too_large"),
        (gzip.compress(PLAIN)[:-20], "gzip", "truncated"),
        (b"\x1f\x8b\x08" + b"\xff" * 40, "gzip", "bad_encoding"),
        (b"\x00" * 40, "deflate", "bad_encoding"),
        (b"x", "exotic", "bad_encoding"),
        (bytes(range(256)), "gzip", "bad_encoding"),
        (b"not brotli at all", "br", "bad_encoding"),
        (PLAIN * 100, "", "too_large"),
    ],
)
def test_unpack_says_why_not(body: bytes, coding: str, reason: str) -> None:
    """Bombs stop at the limit; broken bodies are named."""
    with pytest.raises(BodyError) as caught:
        unpack(body, coding, 10_000)
    assert caught.value.reason == reason


def test_dechunk() -> None:
    """Chunks with extensions and trailers; a body that is not chunked passes."""
    assert dechunk(b"4;x=y\r\nWiki\r\n6\r\npedia \r\n0\r\nT: 1\r\n\r\n") == b"Wikipedia "
    assert dechunk(b"<!doctype html>\r\n") == b"<!doctype html>\r\n"


def test_charset() -> None:
    """As browsers understand the header."""
    assert charset("text/html; charset=UTF-8") == "utf-8"
    assert charset('text/html; Charset="ISO-8859-1"') == "cp1252"
    assert charset("text/html; charset=klingon") is None
    assert charset("text/html") is None


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        ("Füße".encode(), "utf-8"),
        ("Füße".encode("latin-1"), "cp1252"),
        ("Füße".encode("utf-8-sig"), "cp1252"),
        ("Füße".encode("utf-16"), None),
        (b'<meta charset="shift_jis">' + "Füße".encode(), "utf-8"),
        ('<meta charset="iso-8859-1">Füße'.encode("latin-1"), None),
    ],
)
def test_decode(body: bytes, declared: str | None) -> None:
    """Byte order mark, then header, then meta, then detection."""
    assert decode(body, declared).endswith("Füße")


@given(st.binary(max_size=200), st.sampled_from([None, "utf-8", "cp1252", "utf-16", "ascii"]))
def test_decode_never_fails(body: bytes, declared: str | None) -> None:
    """Whatever the bytes: text that can be written as UTF-8."""
    decode(body, declared).encode("utf-8")


def test_traps() -> None:
    """What would keep the parser busy for minutes is found in an instant; large ordinary pages pass."""
    started = time.thread_time()  # this thread's own work: what else the machine does is not counted
    assert trap("<div>" * 30_000 + "x") == "nested_too_deep"
    assert trap("<x-y>" * 30_000) == "nested_too_deep"
    assert trap("<p " + " ".join(f"a{i}=1" for i in range(30_000)) + ">") == "too_many_attributes"
    assert time.thread_time() - started < 1
    assert trap("<p a='1'" + "".join(f"b{i}='1'" for i in range(30_000)) + ">") == "too_many_attributes"
    assert trap("<p " + "/".join(f"c{i}" for i in range(30_000)) + ">") == "too_many_attributes"
    several = "<p " + " ".join(f"a{i}" for i in range(4_000)) + ">"
    assert trap(several * 2 + "x" * 100_000) is None
    assert trap(several * 8) == "too_many_attributes"
    assert trap("<p>word<br>" * 20_000) is None
    assert trap("<div data-state='" + "a word " * 50_000 + "'>") is None  # a value, however long, is one attribute
    assert trap("<script>" + "if (a<b) { f(c, d + 1) } " * 1_000 + "</script>" + "x" * 100_000) is None
    assert trap("<div><span>a</span><img src=x></div>" * 5_000) is None
    assert trap("<div>" * (MAX_DEPTH - 1) + "</div>" * (MAX_DEPTH - 1) + "<p>" * 3000) is None


_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)([^>\"']*+(?:(?:\"[^\"]*+\"|'[^']*+')[^>\"']*+)*+)")
_FLAT = set("br img input link meta p li tr td th body html head".split())  # noqa: SIM905
_PIECES = ["<div>", "</div>", "</x-1>", "<p>", "<br/>", "<g/>", "'", '"', "<", "</", ">", "<1>"]


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [*_PIECES, " a=1/b ", "\u00e4", "<div" + " a" * 40 + ">", "<DIV a>", "<img src='", '<a b="c>d">']
        ),
        max_size=60,
    )
)
def test_traps_as_a_regular_expression_finds_them(pieces: list[str]) -> None:
    """Whatever quotes are open: depth and attributes are those of the tags that the expression sees."""
    html = "".join(pieces)
    depth = deepest = squares = 0
    for closing, name, attributes in _TAG.findall(html):
        if len(attributes.encode()) > 50:
            squares += len(re.split(r"[\s/=]+", re.sub(r"\"[^\"]*\"|'[^']*'", "", attributes))) ** 2
        if name.lower() not in _FLAT and not attributes.endswith("/"):
            depth = depth + 1 if not closing else max(depth - 1, 0)
            deepest = max(deepest, depth)
    page, flat = np.frombuffer(html.encode(), np.uint8), names_of(sorted(_FLAT))
    assert trapped(page, flat, deepest, 50, squares) == 0
    assert not deepest or trapped(page, flat, deepest - 1, 50, squares) == 1
    assert not squares or trapped(page, flat, deepest, 50, squares - 1) == 2


FRENCH = "L’été, les bateaux passent très tôt devant le phare, où la mer est calme. "


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("utf-8", "utf-8", FRENCH), ("iso-8859-1", "cp1252", FRENCH), ("euc-kr", "cp949", "한국어 글 뷁 "), ("ks_c_5601-1987", "cp949", "한국어 뷁 "),
        ("gb2312", "gb18030", "镕 汉字 "), ("gbk", "gb18030", "汉字€ "), ("euc-jp", "euc_jis_2004", "日本語 ① "), ("shift_jis", "cp932", "日本語 ① "),
        ("big5", "big5hkscs", "漢字 "), ("tis-620", "cp874", "ภาษาไทย… "), ("iso-8859-9", "cp1254", "Türkçe “ş” "), ("koi8-r", "koi8-r", "привет "),
        ("windows-1251", "cp1251", "привет "), ("iso-8859-8-i", "iso8859-8", "שלום "), ("unicode-1-1-utf-8", "utf-8", FRENCH),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["header", "meta", "http-equiv"])
def test_one_bad_byte_is_one_bad_character(label: str, codec: str, text: str, where: str) -> None:
    """Labels mean what browsers make of them, and a byte that is none of the encoding changes nothing else."""
    meta = {
        "meta": f"<meta charset={label}>",
        "http-equiv": f'<meta http-equiv=content-type content="text/html; charset={label}">',
    }
    body = meta.get(where, "").encode() + (text * 8).encode(codec) + b"<p>\xff</p>" + (text * 2).encode(codec)
    found = decode(body, charset(f"text/html; charset={label}") if where == "header" else None)
    assert found.count(text) == 10


@pytest.mark.parametrize(
    ("body", "starts"),
    [
        ((FRENCH * 8).encode() + b"\xa9", FRENCH),
        ((FRENCH * 8).encode("cp1252"), FRENCH),
        (b"<?xml version='1.0' encoding='windows-1251'?>" + "привет ".encode("cp1251") * 9, "<?xml version='1.0' encoding='windows-1251'?>привет "),
        (b"<!-- <meta charset=koi8-r> --><meta charset=utf-8>" + FRENCH.encode(), "<!-- <meta charset=koi8-r> --><meta charset=utf-8>" + FRENCH),
        (b"<meta charset=utf-16>" + FRENCH.encode(), "<meta charset=utf-16>" + FRENCH),
        (b"<meta charset=klingon>" + FRENCH.encode() * 9, "<meta charset=klingon>" + FRENCH),
    ],
)  # fmt: skip
def test_what_a_page_says_of_itself(body: bytes, starts: str) -> None:
    """Meta by the HTML Standard's prescan, then detection."""
    assert decode(body, None).startswith(starts)


def test_unpack_zstd_and_members() -> None:
    """zstd as the others, in several frames too; a gzip body of several members is all of them, padding is none."""
    assert unpack(zstandard.compress(PLAIN), "zstd", 10_000) == PLAIN
    assert unpack(zstandard.compress(PLAIN) + zstandard.compress(b"more"), "zstd", 10_000) == PLAIN + b"more"
    assert unpack(gzip.compress(PLAIN) + gzip.compress(b"more") + b"\0\0", "x-gzip", 10_000) == PLAIN + b"more"
    assert unpack(brotli.compress(PLAIN), "br", 10_000) == PLAIN
    for body, reason in (
        (zstandard.compress(PLAIN)[:-4], "truncated"),
        (zstandard.compress(bytes(10**7)), "too_large"),
        (b"\x28\xb5\x2f\xfd\xff\xff" * 9, "bad_encoding"),
    ):
        with pytest.raises(BodyError) as caught:
            unpack(body, "zstd", 10_000)
        assert caught.value.reason == reason
