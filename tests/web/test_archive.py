"""Reading archives: nothing ends in silence."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cpt_ray.web.archive import Record, read_archive

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
    "example-space-in-url.arc": (2, 0), "example-trunc.warc": (3, 2), "example-wget-bad-target-uri.warc.gz": (6, 0),
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
