#!/usr/bin/env bash
# What: warcio unpacks no brotli: with the package brotli installed every "Content-Encoding: br" page is an AttributeError.
# Versions: warcio 1.8.1 with brotli 1.0.9 and 1.2.0, Python 3.11.
# Expected: warcio looks for `import brotli` and registers "br" among the codings that content_stream() undoes, beside gzip
#   and deflate; a page that is packed so comes out as it was.
# Seen: with Google's package, which is what `import brotli` is today, asking for the stream raises AttributeError
#   ('brotli.Decompressor' object has no attribute 'unused_data'): warcio sets an attribute on an object of C, which takes
#   none. It worked with brotlipy, which warcio's extra "all" still names and whose last release is of 2017. Without any of
#   them content_stream() gives the packed bytes, without a word. gzip works in the same archive.
# Why it matters: many sites send br to whoever accepts it, as browsers do. A pipeline that reads archives of browser based
#   crawlers by warcio loses all of them, to an error or, where brotli is not installed, as binary text in the corpus.
# Here: bodies are unpacked by cpt_ray/web/content.py, brotli by fastwarc's BrotliReader.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/read.py" <<'PYTHON'
import gzip
import io
import sys
from importlib.metadata import version

from warcio.archiveiterator import ArchiveIterator

PAGE = b"<html><p>A page of a few words.</p></html>"
# brotli's own bytes of PAGE, so that this runs where the package is not installed.
BROTLI = bytes.fromhex(sys.argv[1]) if len(sys.argv) > 1 else None


def read(coding, body):
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: " + coding + b"\r\n\r\n" + body
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://site.example/\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    ).encode()
    for record in ArchiveIterator(io.BytesIO(head + block + b"\r\n\r\n")):
        try:
            return record.content_stream().read()
        except AttributeError as error:
            return str(error)


try:
    import brotli

    packed, named = brotli.compress(PAGE), f"brotli {version('brotli')}"
    assert brotli.decompress(packed) == PAGE
except ImportError:
    packed, named = BROTLI, "without brotli"
found = {"gzip": read(b"gzip", gzip.compress(PAGE)), "br": read(b"br", packed)}
print(f"warcio {version('warcio')}, {named}")
for coding, seen in found.items():
    print(f"  {coding:5}{seen!r}")
assert found["gzip"] == PAGE
if named == "without brotli":
    assert found["br"] == packed
else:
    assert found["br"] == "'brotli.Decompressor' object has no attribute 'unused_data'"
    print("packed", packed.hex())
PYTHON
python3.11 -m venv "$work/venv"
pip() { "$work/venv/bin/pip" --quiet --disable-pip-version-check "$@" 2> /dev/null; }
for release in 1.0.9 1.2.0; do
    pip install warcio==1.8.1 "brotli==$release"
    "$work/venv/bin/python" "$work/read.py" | tee "$work/said"
done
pip uninstall --yes brotli
"$work/venv/bin/python" "$work/read.py" "$(sed -n 's/^packed //p' "$work/said")"
