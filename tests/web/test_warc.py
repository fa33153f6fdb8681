"""WARC segments that survive a kill."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from cpt_ray.web.warc import OPEN, Exchange, SegmentWriter, captures, committed, read_exchange, segments

DATE = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def page(i: int, body: bytes = b"<p>body</p>") -> Exchange:
    headers = (("Content-Type", "text/html"), ("Transfer-Encoding", "chunked"), ("X-Odd", "a: b"))
    return Exchange(
        f"http://h/{i}", "fetched", DATE, 200, "OK", headers, body, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1"
    )


def failure(i: int) -> Exchange:
    return Exchange(f"http://h/{i}", "timeout", DATE)


def writer(folder: Path, records: int = 100) -> SegmentWriter:
    return SegmentWriter(str(folder), software="test/1", max_records=records, max_bytes=10**9)


def test_other_readers_read_it(tmp_path: Path) -> None:
    """fastwarc and warcio see the same records, digests hold, and no header lies about the body."""
    segment = writer(tmp_path)
    segment.write(page(1))
    segment.write(failure(2))
    segment.close()
    (path,) = segments(str(tmp_path))
    kinds = ["warcinfo", "response", "request", "metadata", "metadata"]
    fast = list(ArchiveIterator(path, verify_digests=False))
    assert [str(record.record_type).rpartition(".")[2] for record in fast] == kinds
    with open(path, "rb") as source:
        seen = []
        for record in WarcioIterator(source, check_digests="raise"):
            seen.append(record.rec_type)
            if record.rec_type == "response":
                assert record.http_headers.get_header("Transfer-Encoding") is None
                assert record.http_headers.get_header("Content-Length") == "11"
                assert record.content_stream().read() == b"<p>body</p>"
                assert record.rec_headers.get_header("WARC-Date") == "2026-01-02T03:04:05.678901Z"
        assert seen == kinds


def test_an_empty_header_is_not_the_next_line(tmp_path: Path) -> None:
    """Else a server would be asked for the version that another header says."""
    segment = writer(tmp_path)
    for i, (tag, date) in enumerate([("", "Fri, 02 Jan 2026 03:04:05 GMT"), ("  ", ""), (' "a" ', "")]):
        headers = (("ETag", tag), ("Server", "one"), ("Last-Modified", date), ("X-Last", "two"))
        segment.write(replace(page(i), headers=headers))
    segment.close()
    found = {one.group.url: one.conditions for one in captures(str(tmp_path))}
    assert found == {
        "http://h/0": {"If-Modified-Since": "Fri, 02 Jan 2026 03:04:05 GMT"},
        "http://h/2": {"If-None-Match": '"a"'},
    }


def test_groups_are_found_again(tmp_path: Path) -> None:
    """Where write() says a group stands, reading finds its response."""
    segment = writer(tmp_path)
    written = [segment.write(page(1, b"one")), segment.write(failure(2)), segment.write(page(3, b"three\r\n\r\nmore"))]
    assert [read_exchange(group).body for group in written] == [b"one", b"", b"three\r\n\r\nmore"]
    segment.close()
    (path,) = segments(str(tmp_path))
    assert [(g.url, g.outcome, g.offset, g.end) for g in committed(path)] == [
        (g.url, g.outcome, g.offset, g.end) for g in written
    ]
    exchange = read_exchange(next(committed(path)))
    assert (exchange.status, exchange.header("content-type"), exchange.header("x-odd")) == (200, "text/html", "a: b")


def test_segments_are_rotated_and_appear_whole(tmp_path: Path) -> None:
    """A segment under way carries a suffix; a full one does not."""
    segment = writer(tmp_path, records=2)
    for i in range(5):
        segment.write(page(i))
    assert sorted(os.listdir(tmp_path)) == ["crawl-00000.warc.gz", "crawl-00001.warc.gz", f"crawl-00002.warc.gz{OPEN}"]
    segment.close()
    assert [len(list(committed(path))) for path in segments(str(tmp_path))] == [2, 2, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.floats(0, 1))
def test_a_cut_anywhere_keeps_the_whole_groups(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    """Cut the open segment at any byte: the groups before the cut are kept, writing goes on, each URL is there once."""
    folder = tmp_path_factory.mktemp("cut")
    first = writer(folder)
    groups = [first.write(page(i) if i % 3 else failure(i)) for i in range(6)]
    path = folder / f"crawl-00000.warc.gz{OPEN}"
    at = int(cut * groups[-1].end)
    os.truncate(path, at)
    again = writer(folder)
    kept = again.recover()
    assert [g.url for g in kept] == [g.url for g in groups if g.end <= at]
    for i in range(len(kept), 6):
        again.write(page(i))
    again.close()
    (final,) = segments(str(folder), unfinished=True)
    assert [g.url for g in committed(final)] == [f"http://h/{i}" for i in range(6)]


def test_header_bytes_are_archived_as_they_came(tmp_path: Path) -> None:
    """Raw UTF-8, Latin-1, 0x85 and 0xA0 at an end, repeated names, their case: the same bytes, and read back the same."""
    values = ["http://h/caf\xe9".encode(), b"caf\xe9", "voil\xe0".encode(), b"x\x85y", b'a;  b="c"', b""]
    headers = tuple(
        (name, value.decode("latin-1"))
        for name, value in zip(["Location", "x-B", "X-b", "Et-Cetera", "q", "E"], values, strict=True)
    )
    segment = writer(tmp_path)
    group = segment.write(
        Exchange(
            "http://h/1",
            "redirect",
            DATE,
            302,
            "Trouv\udce9",
            headers,
            b"body",
            b"GET / HTTP/1.1\r\n\r\n",
            version="HTTP/1.0",
            attempts=3,
        )
    )
    assert read_exchange(group).headers[: len(headers)] == headers
    assert read_exchange(group).attempts == 3
    segment.close()
    (path,) = segments(str(tmp_path))
    assert next(committed(path)) == group._replace(path=path)
    with open(path, "rb") as source:
        blocks = [r.raw_stream.read() for r in WarcioIterator(source, no_record_parse=True) if r.rec_type == "response"]
    (block,) = blocks
    assert block.startswith(b"HTTP/1.0 302 Trouv\xe9\r\nLocation: http://h/caf\xc3\xa9\r\n")
    for value in values:
        assert b": " + value + b"\r\n" in block
    assert block.endswith(b"\r\nContent-Length: 4\r\n\r\nbody")
