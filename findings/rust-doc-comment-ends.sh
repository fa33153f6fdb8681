#!/usr/bin/env bash
# tree-sitter-rust 0.24.2 with tree-sitter 0.26.1: a `///` comment's node includes the line end, a `//` comment's does not.
#
# Expected: comment nodes end at the last character of the comment, as in the other grammars (go, javascript, java ...),
#   so that "the comment ends on the line before the function" can be asked of `end_point.row`.
# Seen: `/// doc` ends at column 0 of the next row; `// plain` ends on its own row; `/** doc */` too. Of two `///` lines
#   the first ends where the second begins, and a blank line after a doc comment looks like none.
# Why it matters: miners of documentation attach comments to functions by rows. By rows a `///` comment and the function
#   below it are zero lines apart where `//` is one, and an empty line between them is not seen.
# Exits non-zero if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tree-sitter==0.26.1 tree-sitter-rust==0.24.2 tree-sitter-go==0.25.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import tree_sitter_go
import tree_sitter_rust
from tree_sitter import Language, Parser

print(*(f"{name} {version(name)}" for name in ("tree-sitter", "tree-sitter-rust", "tree-sitter-go")))


def ends(grammar, source):
    root = Parser(Language(grammar.language())).parse(source).root_node
    return [
        (node.text, node.end_point.row - node.start_point.row, node.end_point.column)
        for node in root.children
        if "comment" in node.type
    ]


rust = ends(tree_sitter_rust, b"/// doc\nfn f() {}\n// plain\nfn g() {}\n/** block */\nfn h() {}\n")
go = ends(tree_sitter_go, b"package a\n\n// doc\nfunc f() {}\n")
for language, found in (("rust", rust), ("go", go)):
    for text, rows, column in found:
        print(f"{language}: {text!r} ends {rows} row(s) below its start, at column {column}")
assert rust == [(b"/// doc\n", 1, 0), (b"// plain", 0, 8), (b"/** block */", 0, 12)], rust
assert go == [(b"// doc", 0, 6)], go
PYTHON
