#!/usr/bin/env bash
# tree-sitter 0.26.1 for Python: what `Parser.parse` is given by a function is never freed.
#
# Expected: a source that is parsed from chunks (`parser.parse(lambda offset, point: ...)`, the one way that takes a
#   `progress_callback` and so can give up on a file) is let go of when the tree is, as one that is parsed from bytes.
# Seen: each chunk that the function returns keeps one reference more, also after tree and parser are gone. Of a file that
#   fits into one chunk `source[offset : offset + n]` is the source itself, so that the whole file stays in memory.
# Why it matters: miners of code parse gigabytes in one process and bound hostile files by the callback. A worker grows by
#   at least all that it has parsed. A chunk that is a memoryview, released after parsing, costs no more than its own 200
#   bytes; but then `Node.text` must not be asked for (it takes bytes alone).
# Exits non-zero if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tree-sitter==0.26.1 tree-sitter-python==0.25.0
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import sys
from importlib.metadata import version
from pathlib import Path

import tree_sitter_python
from tree_sitter import Language, Parser

print(*(f"{name} {version(name)}" for name in ("tree-sitter", "tree-sitter-python")))
LANGUAGE = Language(tree_sitter_python.language())


def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def grown(parse):
    """References more to one source after it is parsed, and megabytes more after forty others."""
    source = b"x = 1\n" * 10_000
    before = sys.getrefcount(source)
    parse(source)
    gc.collect()
    more, memory = sys.getrefcount(source) - before, megabytes()
    for i in range(40):
        parse(b"x = %d\n" % i * 140_000)
    gc.collect()
    return more, round(megabytes() - memory)


def released(source):
    views = []

    def read(offset, _point):
        views.append(memoryview(source)[offset:])
        return views[-1]

    Parser(LANGUAGE).parse(read)
    for view in views:
        view.release()


seen = {
    "bytes": grown(lambda source: Parser(LANGUAGE).parse(source)),
    "a function": grown(lambda source: Parser(LANGUAGE).parse(lambda offset, _: source[offset : offset + 65_536])),
    "a function of views, released": grown(released),
}
for how, (references, memory) in seen.items():
    print(f"parsed from {how}: {references} references more to the source, {memory} MB more after 40 files of about 1 MB")
assert seen["bytes"][0] == 0 and seen["bytes"][1] < 15, seen
assert seen["a function"][0] >= 1 and seen["a function"][1] > 30, seen
assert seen["a function of views, released"][0] == 0 and seen["a function of views, released"][1] < 15, seen
PYTHON
