#!/usr/bin/env bash
# tree-sitter-scala 0.26.3 with tree-sitter 0.26.1: the doc comment of a method lies inside the method before it.
#
# Expected: a `/** ... */` between two methods is their sibling, as it is in this grammar when the first body is in braces or
#   on the line of its `=`.
# Seen: when the first method's body is indented (`def a =` and a new line, common in Scala 2 and the rule in Scala 3), the
#   block is ended by the next *code*, so the comment below it becomes the last child of that `indented_block`, though it
#   stands at the outer column. The tree has no error. The same at top level, and from a braceless `object O:` to what follows.
# Why it matters: miners of documentation look for the comment before a function among its siblings. They find none for the
#   second method, whose documentation is lost, and the first method's text ends with the documentation of another.
# Exits non-zero if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tree-sitter==0.26.1 tree-sitter-scala==0.26.3
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import tree_sitter_scala
from tree_sitter import Language, Parser

print(*(f"{name} {version(name)}" for name in ("tree-sitter", "tree-sitter-scala")))
DOC = "/** Closes the file. */"
SOURCES = {
    "braces": f"object O {{\n  def open(): Int = {{\n    1\n  }}\n\n  {DOC}\n  def close(): Int = 2\n}}\n",
    "one line": f"object O {{\n  def open(): Int = 1\n\n  {DOC}\n  def close(): Int = 2\n}}\n",
    "indented": f"object O {{\n  def open(): Int =\n    1\n\n  {DOC}\n  def close(): Int = 2\n}}\n",
    "top level": f"def open(): Int =\n  1\n\n{DOC}\ndef close(): Int = 2\n",
    "braceless object": f"object O:\n  val x = 1\n\n{DOC}\ndef close(): Int = 2\n",
}


def below(node):
    yield node
    for child in node.children:
        yield from below(child)


found = {}
for name, source in SOURCES.items():
    root = Parser(Language(tree_sitter_scala.language())).parse(source.encode()).root_node
    assert not root.has_error
    (comment,) = (node for node in below(root) if node.type == "block_comment")
    function = [node for node in below(root) if node.type == "function_definition"][-1]
    before = function.prev_named_sibling
    found[name] = (comment.parent.type, before.type)
    print(f"{name}: comment in {comment.parent.type}, before close() stands {before.type}, ends {before.text[-23:]!r}")
assert found == {
    "braces": ("template_body", "block_comment"),
    "one line": ("template_body", "block_comment"),
    "indented": ("indented_block", "function_definition"),
    "top level": ("indented_block", "function_definition"),
    "braceless object": ("template_body", "object_definition"),
}, found
PYTHON
