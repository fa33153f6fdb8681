#!/usr/bin/env bash
# What: warcio's content_stream() gives packed bytes, or the beginning of a page, where a body has two codings or two members.
# Versions: warcio 1.8.1 beside fastwarc 2.0.1, Python 3.11.
# Expected: Content-Encoding and Transfer-Encoding are lists (RFC 9110 8.4, RFC 9112 6.1), a gzip body is a sequence of
#   members (RFC 1952 2.2). A stream that is named decoded has undone what the head names, or says that it cannot.
# Seen: the header's whole value is compared with the name of one coding. "deflate, gzip" is nothing that warcio knows, and
#   the packed bytes come out; "gzip, chunked" is not "chunked", and chunk sizes and gzip come out. Of a gzip body of two
#   members the first comes out alone. No error, no warning. FastWARC, asked to decode, gives the page in all three.
# Why it matters: these are whole pages that turn to noise, or to their first lines, without a count anywhere. A language
#   filter takes the noise; the page that ends early stays in the corpus.
# Here: cpt_ray/web/record.py and content.py undo every coding of the lists and every member, and count what they cannot.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check fastwarc==2.0.1 warcio==1.8.1 2> /dev/null
"$work/venv/bin/python" - <<'PYTHON'
import gzip
import io
import zlib
from importlib.metadata import version

from fastwarc.warc import ArchiveIterator as FastWARC
from warcio.archiveiterator import ArchiveIterator as Warcio

PAGE = b"<html><p>The first half of a page, and the second half of it.</p></html>"
ONE = gzip.compress(PAGE)
CASES = {
    "one coding, one member": (b"Content-Encoding: gzip", ONE),
    "two codings": (b"Content-Encoding: deflate, gzip", gzip.compress(zlib.compress(PAGE))),
    "packed for the transfer": (b"Transfer-Encoding: gzip, chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(ONE), ONE)),
    "two members": (b"Content-Encoding: gzip", gzip.compress(PAGE[:32]) + gzip.compress(PAGE[32:])),
}


def archive(header, body):
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + header + b"\r\n\r\n" + body
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://site.example/\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    ).encode()
    return io.BytesIO(head + block + b"\r\n\r\n")


seen = {}
print(f"warcio {version('warcio')}, fastwarc {version('fastwarc')}")
for name, case in CASES.items():
    (warcio,) = [record.content_stream().read() for record in Warcio(archive(*case))]
    (fastwarc,) = [record.reader.read() for record in FastWARC(archive(*case), auto_decode="all")]
    seen[name] = warcio
    print(f"  {name:24} warcio {warcio[:40]!r}\n  {'':24} fastwarc {fastwarc[:40]!r}")
    assert fastwarc == PAGE
assert seen["one coding, one member"] == PAGE
assert seen["two codings"] == CASES["two codings"][1]
assert seen["packed for the transfer"] == CASES["packed for the transfer"][1]
assert seen["two members"] == PAGE[:32]
PYTHON
