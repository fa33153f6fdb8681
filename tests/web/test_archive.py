"""Reading archives: nothing ends in silence."""

from __future__ import annotations

import gzip
import json
import random
import re
import time
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cpt_ray.web import readers
from cpt_ray.web.archive import endings, formats, read_archive
from cpt_ray.web.record import Record, date

SHARED = Path(__file__).parents[3] / "shared" / "data" / "web"
needs_samples = pytest.mark.skipif(
    not (SHARED / "warc-samples").is_dir(), reason="../shared/data/web/warc-samples is absent"
)

HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"


def record(i: int, kind: str = "response", http: bytes = HTTP + b"\r\n<p>body %d</p>") -> bytes:
    block = http % i if b"%d" in http else http
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://h/{i}\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n"
        f"Content-Type: application/http; msgtype={kind}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def read(path: Path, data: bytes, **options: int) -> list[Record]:
    path.write_bytes(data)
    return list(read_archive(str(path), **options))


def members(packed: bool) -> list[bytes]:
    plain = [record(i) for i in range(5)]
    return [gzip.compress(data, mtime=0) for data in plain] if packed else plain


@pytest.mark.parametrize("packed", [False, True])
def test_records(tmp_path: Path, packed: bool) -> None:
    """Every record with URL, status, headers, body, date and the offset from which it alone can be read again."""
    parts = members(packed)
    found = read(tmp_path / "a.warc.gz", b"".join(parts))
    assert [r.url for r in found] == [f"http://h/{i}" for i in range(5)]
    assert [r.offset for r in found] == [sum(map(len, parts[:i])) for i in range(5)]
    assert {(r.status, r.content_type, r.charset, r.reason, r.file) for r in found} == {
        (200, "text/html", "utf-8", None, "a.warc.gz")
    }
    assert found[3].body == b"<p>body 3</p>"
    assert str(found[0].fetched_at) == "2026-01-02 03:04:05+00:00"
    alone = read(tmp_path / "b.warc.gz", b"".join(parts)[found[3].offset :])
    assert alone[0].url == "http://h/3"


@pytest.mark.parametrize("packed", [False, True])
def test_every_cut(tmp_path: Path, packed: bool) -> None:
    """Cut anywhere: the records before the cut are sound, and a record that lost content is reported, exactly once."""
    parts = members(packed)
    data = b"".join(parts)
    ends = [sum(map(len, parts[: i + 1])) for i in range(5)]
    for cut in range(0, len(data) + 1, 3):
        found = read(tmp_path / "a.warc", data[:cut])
        sound = [r for r in found if r.reason is None]
        whole = sum(end <= cut for end in ends)
        # Behind a record's last byte of content come line ends and, packed, a checksum: 24 bytes without content.
        assert whole <= len(sound) <= sum(end - 24 <= cut for end in ends)
        assert all(r.body for r in sound)
        stump = cut - ([0, *ends])[len(sound)]
        assert [r.reason for r in found if r.reason] == ([] if stump <= 0 else ["truncated"]), cut


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(at=st.floats(0, 0.9999), flip=st.integers(1, 255), packed=st.booleans(), length=st.integers(1, 30))
@example(at=158.5 / 241, flip=20, packed=False, length=1)  # the length becomes 472
def test_damage_costs_the_damaged_records_only(tmp_path: Path, at: float, flip: int, packed: bool, length: int) -> None:
    """Overwrite some bytes of one record: the others are read, but what a plain record takes along that now states a
    larger length within the file; in a packed file the damaged one is reported."""
    parts = members(packed)
    which, hurt = 2, bytearray(parts[2])
    start = int(at * len(hurt))
    for i in range(start, min(len(hurt), start + length)):
        hurt[i] ^= flip
    found = read(tmp_path / "a.warc", b"".join([*parts[:which], bytes(hurt), *parts[which + 1 :]]))
    sound = {r.url: r for r in found if r.reason is None}
    assert {"http://h/0", "http://h/1"} <= sound.keys()
    # A larger length in a plain file is believed while the file is long enough: nothing else says where the record ends.
    before, after = (re.search(rb"Content-Length:\s*(\d+)", data) for data in (parts[which], hurt))
    if packed or not after or not 0 < int(after[1]) - int(before[1]) <= sum(map(len, parts[which:])):
        assert "http://h/4" in sound
    if packed:
        assert "http://h/3" in sound
        untouched = sound.get("http://h/2")
        if untouched is None or untouched.body != b"<p>body 2</p>":
            assert any(r.reason for r in found)


@pytest.mark.parametrize("length", [b"99999", b"99999999999"])
def test_a_length_past_the_end_hides_nothing(tmp_path: Path, length: bytes) -> None:
    """A plain record whose damaged length goes beyond the file is reported, once, and what stands behind it is read."""
    parts = members(packed=False)
    parts[2] = re.sub(rb"Content-Length: \d+", b"Content-Length: " + length, parts[2])
    found = read(tmp_path / "a.warc", b"".join(parts))
    assert [(r.url, r.reason) for r in found] == [(f"http://h/{i}", "truncated" if i == 2 else None) for i in range(5)]


@pytest.mark.parametrize(
    ("http", "reason"),
    [
        (b"not http", "no_http_status"),
        (b"", "no_http_status"),
        (HTTP + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08broken", "bad_encoding"),
        (HTTP + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"0" * 200_000), "too_large"),
        (HTTP + b"\r\n" + b"0" * 200_000, "too_large"),
        (HTTP + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", None),
        (HTTP.replace(b"\r\n", b"\n") + b"\nabc", None),
    ],
)
def test_bodies(tmp_path: Path, http: bytes, reason: str | None) -> None:
    """A body that cannot be had is named; what follows is read."""
    bad, good = read(tmp_path / "a.warc", record(1, http=http) + record(2), max_bytes=100_000)
    assert (bad.url, bad.reason, bad.body) == ("http://h/1", reason, b"" if reason else b"abc")
    assert good.reason is None


@pytest.mark.parametrize(
    ("data", "reasons"),
    [(b"", []), (b"hello world", ["malformed"]), (b"\x1f\x8b\x08", ["truncated"]), (b"\x00" * 5000, ["malformed"])],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes, reasons: list[str]) -> None:
    """An empty file has no records; anything else that is no archive is one bad record, not an empty one."""
    assert [r.reason for r in read(tmp_path / "a.warc", data)] == reasons


# What the malformed files of warcio's own tests hold: (sound records, bad records) by name.
SAMPLES = {
    "bad.arc": (1, 3), "example-bad-non-chunked.warc.gz": (6, 0), "example-bad.warc.gz.bad": (6, 0), "example-digest.warc": (4, 0),
    "example-iana.org-chunked.warc": (3, 0), "example-resource.warc.gz": (3, 0), "example-space-in-target-uri.warc.gz": (2, 0),
    "example-space-in-url.arc": (1, 1), "example-trunc.warc": (3, 2), "example-wget-bad-target-uri.warc.gz": (6, 0),
    "example-wrong-chunks.warc.gz": (2, 0), "example.arc": (2, 0), "example.arc.gz": (2, 0), "example.warc": (6, 0),
    "example.warc.gz": (6, 0), "post-test.warc.gz": (6, 0),
}  # fmt: skip


@needs_samples
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_samples(name: str) -> None:
    """Good and malformed files of the wild: every sound record comes out, every bad one is counted."""
    found = list(read_archive(str(SHARED / "warc-samples" / name)))
    assert (sum(r.reason is None for r in found), sum(r.reason is not None for r in found)) == SAMPLES[name]
    bodies = [
        r.body for r in found if r.kind == "response" and r.status == 200 and r.reason is None and "example" in r.url
    ]
    assert all(b"Example Domain" in body for body in bodies)


@pytest.mark.skipif(not (SHARED / "wcxb").is_dir(), reason="../shared/data/web/wcxb is absent")
def test_a_real_archive() -> None:
    """300 pages of all kinds: each URL of the truth, decoded, exactly once."""
    with gzip.open(SHARED / "wcxb" / "truth.jsonl.gz") as lines:
        truth = [json.loads(line)["url"] for line in lines]
    found = list(read_archive(str(SHARED / "wcxb" / "pages.warc.gz")))
    assert sorted(r.url for r in found) == sorted(truth)
    assert all(r.reason is None and r.body for r in found)


# --- formats and packings ---------------------------------------------------------------------------------------------

PAGE = (
    b"<main><p>"
    + b"The harbour wall was built of grey stone, and the boats go out past it every morning. " * 4
    + b"</p></main>"
)
ZSTD = b"\x28\xb5\x2f\xfd"


def zstd_frames(parts: list[bytes], dictionary: bytes | None = None, packed: bool = False) -> bytes:
    known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    frames = b"".join(zstandard.ZstdCompressor(dict_data=known).compress(part) for part in parts)
    if dictionary is None:
        return frames
    content = zstandard.ZstdCompressor().compress(dictionary) if packed else dictionary
    return b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content + frames


def trained() -> bytes:
    samples = [record(i, http=HTTP + b"\r\n" + PAGE + b"%d") for i in range(200)]
    return bytes(zstandard.train_dictionary(2048, samples).as_bytes())


@pytest.mark.parametrize("dictionary", ["none", "raw", "packed"])
def test_zstd(tmp_path: Path, dictionary: str) -> None:
    """A frame a record, with and without a dictionary in a leading skippable frame; offsets are those of the frames."""
    parts = members(packed=False)
    known = None if dictionary == "none" else trained()
    data = zstd_frames(parts, known, dictionary == "packed")
    found = read(tmp_path / "a.warc.zst", data)
    assert [(r.url, r.reason, r.body) for r in found] == [
        (f"http://h/{i}", None, b"<p>body %d</p>" % i) for i in range(5)
    ]
    assert all(data[r.offset :].startswith(ZSTD) for r in found)
    assert len({r.offset for r in found}) == 5


@pytest.mark.parametrize("dictionary", [False, True])
def test_damage_in_zstd(tmp_path: Path, dictionary: bool) -> None:
    """A damaged frame costs its record, a cut file its last; nothing behind the damage is lost."""
    parts = members(packed=False)
    known = trained() if dictionary else None
    head = len(zstd_frames([], known))
    frames = [zstd_frames([part], known)[head:] for part in parts]
    hurt = bytearray(frames[2])
    hurt[len(hurt) // 2 : len(hurt) // 2 + 8] = b"\xff" * 8
    found = read(tmp_path / "a.warc.zst", zstd_frames([], known) + b"".join([*frames[:2], bytes(hurt), *frames[3:]]))
    assert [r.url for r in found if r.reason is None] == [f"http://h/{i}" for i in (0, 1, 3, 4)]
    assert any(r.reason for r in found)
    found = read(tmp_path / "a.warc.zst", (zstd_frames([], known) + b"".join(frames))[:-30])
    assert [r.url for r in found if r.reason is None] == [f"http://h/{i}" for i in range(4)]
    assert [r.reason for r in found if r.reason] == ["truncated"]


def test_zstd_whole(tmp_path: Path) -> None:
    """All records in one frame, as `zstd file.warc` makes it."""
    found = read(tmp_path / "a.warc.zst", zstd_frames([b"".join(members(packed=False))]))
    assert [r.url for r in found] == [f"http://h/{i}" for i in range(5)]


def test_a_dictionary_cut_off_is_said(tmp_path: Path) -> None:
    data = zstd_frames(members(packed=False), trained())
    assert [r.reason for r in read(tmp_path / "a.warc.zst", data[:500])][:1] == ["truncated"]


def wet(i: int, text: str) -> bytes:
    body = text.encode()
    return (
        (
            f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://h/{i}\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    "name", ["a.warc.wet.gz", "a.wet.gz", "a.wet", "a.warc.wet", "a.warc.zst", "a.arc.gz", "a.warc"]
)
def test_names(name: str) -> None:
    """What a folder of archives is searched for; the metadata of WAT files is none."""
    assert name.endswith(endings())
    assert not name.replace("wet", "wat").replace(".warc", ".wat").replace(".arc", ".wat").endswith(endings())


def test_wet(tmp_path: Path) -> None:
    """The plain text of a page is its body."""
    data = b"".join(gzip.compress(wet(i, f"Line one of {i}\nLine two")) for i in range(3))
    found = read(tmp_path / "a.warc.wet.gz", data)
    assert [(r.kind, r.url, r.content_type, r.body) for r in found] == [
        ("conversion", f"http://h/{i}", "text/plain", b"Line one of %d\nLine two" % i) for i in range(3)
    ]


def arc(i: int, body: bytes = PAGE, version: int = 1, plus: int = 0) -> bytes:
    block = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    rest = "text/html 200 - - 0 a.arc" if version == 2 else "text/html"
    return f"http://h/{i} 1.2.3.4 20080102030405 {rest} {len(block) + plus}\n".encode() + block + b"\n"


def filedesc(version: int = 1) -> bytes:
    block = f"{version} 0 Example\nURL IP-address Archive-date Content-type Archive-length\n\n".encode()
    return f"filedesc://a.arc 0.0.0.0 20080102030405 text/plain {len(block)}\n".encode() + block


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_arc(tmp_path: Path, packed: bool, version: int) -> None:
    """Both versions: URL, date, body and the offset of each record."""
    parts = [filedesc(version), *(arc(i, version=version) for i in range(3))]
    parts = [gzip.compress(part) for part in parts] if packed else parts
    found = read(tmp_path / "a.arc", b"".join(parts))
    assert [(r.kind, r.url, r.status, r.reason) for r in found[1:]] == [
        ("response", f"http://h/{i}", 200, None) for i in range(3)
    ]
    assert {str(r.fetched_at) for r in found[1:]} == {"2008-01-02 03:04:05+00:00"}
    assert all(r.body == PAGE for r in found[1:])
    assert [r.offset for r in found] == [sum(map(len, parts[:i])) for i in range(4)]


@pytest.mark.parametrize("packed", [False, True])
def test_damage_in_arc(tmp_path: Path, packed: bool) -> None:
    """Bytes overwritten in one record, a length too long or the end cut off: that record alone, with a reason."""
    parts = [filedesc(), *(arc(i) for i in range(3))]
    pack = gzip.compress if packed else bytes
    cut = b"".join(map(pack, parts))[:-40]
    found = read(tmp_path / "a.arc", cut)
    assert [(r.url, r.reason) for r in found[1:]] == [
        ("http://h/0", None),
        ("http://h/1", None),
        ("http://h/2", "truncated"),
    ] or packed
    assert [r.reason for r in found] == [None, None, None, "truncated"]
    longer = [*parts[:2], arc(1, plus=60), parts[3]]
    found = read(tmp_path / "a.arc", b"".join(map(pack, longer)))
    assert [(r.url, r.reason) for r in found[1:]] == [
        ("http://h/0", None),
        ("http://h/1", "truncated"),
        ("http://h/2", None),
    ]
    if packed:
        hurt = bytearray(pack(parts[2]))
        hurt[60:64] = b"\xff" * 4
        found = read(tmp_path / "a.arc", b"".join([pack(parts[0]), pack(parts[1]), bytes(hurt), pack(parts[3])]))
        assert [r.url for r in found if r.reason is None][1:] == ["http://h/0", "http://h/2"]
        assert any(r.reason for r in found)


@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("plus", [5, 40, 200, 900])
def test_a_length_too_long_takes_no_other_record(tmp_path: Path, packing: str, plus: int) -> None:
    """The record is reported with its URL, and all others are sound."""
    parts = members(packed=False)
    parts[2] = re.sub(rb"Content-Length: (\d+)", lambda m: b"Content-Length: %d" % (int(m[1]) + plus), parts[2])
    pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[packing]
    found = read(tmp_path / "a.warc", b"".join(map(pack, parts)))
    assert [(r.url, r.reason) for r in found] == [(f"http://h/{i}", "truncated" if i == 2 else None) for i in range(5)]


def test_a_length_too_short_is_no_sound_record(tmp_path: Path) -> None:
    """The record that lost its end is reported; the next is read."""
    parts = members(packed=True)
    parts[2] = gzip.compress(
        re.sub(rb"Content-Length: (\d+)", lambda m: b"Content-Length: %d" % (int(m[1]) - 9), gzip.decompress(parts[2]))
    )
    found = read(tmp_path / "a.warc.gz", b"".join(parts))
    assert [r.url for r in found if r.reason is None] == [f"http://h/{i}" for i in (0, 1, 3, 4)]
    assert "http://h/2" in {r.url for r in found if r.reason}


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "content_type", "body"),
    [
        (b"Content-Type: text/html charset=utf-8\r\n\r\n", "text/html", PAGE),
        (b"Content-Type: text/html,text/html\r\n\r\n", "text/html", PAGE),
        (b"Content-Type: bogus\r\nContent-Type: text/html\r\n\r\n", "text/html", PAGE),
        (b"Content-Type: */*\r\n\r\n", "text/html", PAGE.replace(b"<main>", b"<body>")),
        (b"Content-Type:\r\n text/html\r\n\r\n", "text/html", PAGE),
        (b"content-type:\n\ttext/html\n\n", "text/html", PAGE),
        (b"X-A: caf\x85\r\nContent-Type: text/html\r\n\r\n", "text/html", PAGE),
        (b"\r\n", "text/html", b" \n<!doctype html><p>" + PAGE),
        (b"\r\n", "text/html", b"<!-- x --><p>" + PAGE),
        (b"\r\n", "text/plain", b"Plain words and no markup"),
        (b"\r\n", "text/xml", b"<?xml version='1.0'?><rss></rss>"),
        (b"\r\n", "application/octet-stream", b"%PDF-1.4 x"),
        (b"\r\n", "application/octet-stream", b"\x00\x01\x02"),
        (b"\r\n", "text/plain", b"<pre>not in the table</pre>"),
        (b"Content-Type: text/html\n\n", "text/html", b"<h1>Top</h1>\r\n\r\n<p>rest</p>"),
        (b"Content-Type: text/html\n\r\n", "text/html", b"<h1>Top</h1>\n\n<p>rest</p>"),
    ],
)
def test_heads(tmp_path: Path, head: bytes, content_type: str, body: bytes) -> None:
    """Media types as browsers take them, folded values, the head's end where it is; without a type by MIME sniffing."""
    nl = b"\n" if b"\r" not in head else b"\r\n"
    (found,) = read(tmp_path / "a.warc", record(1, http=b"HTTP/1.1 200 OK" + nl + head + body))
    assert (found.content_type, found.body, found.reason) == (content_type, body, None)


@pytest.mark.parametrize(
    "before", ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"]
)
def test_what_comes_before_the_answer_is_none(tmp_path: Path, before: str) -> None:
    """Interim answers, one or many; where nothing follows, that was all."""
    answer = HTTP + b"\r\n" + PAGE
    http = [before.encode() + answer, before.encode() * 50_000 + answer, before.encode(), before.encode() + b"nothing"]
    found = read(tmp_path / "a.warc", b"".join(record(i, http=one) for i, one in enumerate(http)))
    assert [(one.status, one.body) for one in found[:2]] == [(200, PAGE)] * 2
    assert [one.status // 100 for one in found[2:]] == [1, 1]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Transfer-Encoding: gzip", gzip.compress(PAGE)),
        (
            "Transfer-Encoding: gzip, chunked",
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(PAGE)), gzip.compress(PAGE)),
        ),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", gzip.compress(PAGE)),
        ("Content-Encoding: deflate\r\nContent-Encoding: gzip", gzip.compress(zlib.compress(PAGE))),
        ("Content-Encoding: gzip\r\nContent-Encoding: gzip", gzip.compress(PAGE)),
    ],
)
def test_all_codings_are_undone(tmp_path: Path, headers: str, body: bytes) -> None:
    """Of the content and of its transfer, in one header or in several."""
    (found,) = read(tmp_path / "a.warc", record(1, http=HTTP + f"{headers}\r\n\r\n".encode() + body))
    assert (found.reason, found.body) == (None, PAGE)


@pytest.mark.parametrize(
    "coding", ["none", "UTF-8", "deflate", "br", "zstd", "gzip", "identity", "binary", "gzip, br", "sdch"]
)
def test_codings_kept_on_decoded_bodies(tmp_path: Path, coding: str) -> None:
    """Crawlers unpack and keep the header."""
    (found,) = read(tmp_path / "a.warc", record(1, http=HTTP + f"Content-Encoding: {coding}\r\n\r\n".encode() + PAGE))
    assert (found.reason, found.body) == (None, PAGE)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("2026", "2026-01-01 00:00:00"), ("2026-05", "2026-05-01 00:00:00"), ("2026-05-01", "2026-05-01 00:00:00"),
        ("2026-05-01T00:00:00", "2026-05-01 00:00:00"), ("2026-05-01T01:30Z", "2026-05-01 01:30:00"),
        ("2026-05-01T00:00:00.123456789Z", "2026-05-01 00:00:00.123456"), ("2026-05-01T02:00:00+02:00", "2026-05-01 00:00:00"),
    ],
)  # fmt: skip
def test_dates(monkeypatch: pytest.MonkeyPatch, written: str, read_as: str) -> None:
    """Any precision that WARC 1.1 allows; without a zone it is UTC, whatever the machine's is."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert str(date(written)) == f"{read_as}+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [date(text) for text in ("", "yesterday", "2026-13-01", "20260501")] == [None] * 4


def test_chunks_that_are_none(tmp_path: Path) -> None:
    """A bad size in the middle is a reason, not a shorter page."""
    chunked = HTTP + b"Transfer-Encoding: chunked\r\n\r\n"
    bodies = [b"5\r\nabcde\r\nzz\r\nrest", b"5\r\nabcde\r\nff\r\nrest", b"5\r\nabcde\r\n", PAGE]
    found = read(tmp_path / "a.warc", b"".join(record(i, http=chunked + body) for i, body in enumerate(bodies)))
    assert [r.reason for r in found] == ["bad_chunks", "truncated", None, None]
    assert [r.body for r in found[2:]] == [b"abcde", PAGE]


def test_segmented_records_are_no_pages(tmp_path: Path) -> None:
    """The first segment holds the beginning of a page only."""
    first = record(1).replace(b"WARC-Type: response", b"WARC-Type: response\r\nWARC-Segment-Number: 1")
    rest = record(1, kind="continuation").replace(b"\r\nContent-Type", b"\r\nWARC-Segment-Number: 2\r\nContent-Type", 1)
    assert [(r.kind, r.reason) for r in read(tmp_path / "a.warc", first + rest)] == [
        ("response", "segmented"),
        ("continuation", None),
    ]


def test_a_new_format_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in a folder of readers: its names are found and its files are read."""
    (tmp_path / "lines.py").write_text(
        "import re\nfrom cpt_ray.web.record import Record\nENDINGS = ('.pages',)\nSTART = re.compile(rb'PAGE .*\\n')\n"
        "def read(stream, name, max_bytes):\n    if not stream.begin():\n        return None\n"
        "    line = stream.head(re.compile(rb'\\n'), START).decode().split()\n"
        "    return Record(name, stream.offset, 'response', line[1], 200, {'content-type': 'text/html'}, b'')\n"
    )
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])
    formats.cache_clear()
    try:
        assert "x.pages.gz".endswith(endings())
        found = read(tmp_path / "x.pages", b"PAGE http://h/1\nPAGE http://h/2\n")
        assert [(r.url, r.offset) for r in found] == [("http://h/1", 0), ("http://h/2", 16)]
    finally:
        monkeypatch.undo()
        formats.cache_clear()


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 1000), marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("packing", ["plain", "gzip", "zstd"])
def test_seeds_of_damage(tmp_path: Path, packing: str, seeds: range) -> None:
    """Cuts and flipped bits: reading ends, and no sound record holds another's head."""
    pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[packing]
    data = b"".join(pack(record(i, http=HTTP + b"\r\n" + PAGE + b"%d")) for i in range(6))
    for seed in seeds:
        rng = random.Random(seed)
        hurt = bytearray(data[: rng.randint(1, len(data))] if seed % 2 else data)
        for _ in range(rng.randint(0, 3)):
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
        found = read(tmp_path / "a.warc", bytes(hurt))
        assert found, seed
        assert not any(b"WARC-Type" in r.body for r in found if r.reason is None), seed
