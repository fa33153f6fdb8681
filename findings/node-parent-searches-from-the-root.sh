#!/usr/bin/env bash
# tree-sitter 0.26.1 (with tree-sitter-javascript 0.25.0): Node.parent searches for the node from the root of the tree.
#
# Expected: a node's parent is had in the same time wherever the node stands, as in ast walkers and DOMs, so that a miner may
#   ask every function of a file what holds it.
# Seen: the parent of a function in a chain of n calls (`p.then(f).then(f)...`, a shape that real code has) takes time in
#   proportion to its depth, because each call begins at the root and descends: 16 times as deep, about 16 times as long.
#   Asking every function of such a file is quadratic: of 8,000 calls (a file of 400 KB) it took half a minute, of which
#   parsing was 0.1 s. Nothing in the documentation of `parent` says so.
# Why it matters: who mines or chunks source by syntax asks for parents all the time. Walking down and handing the parent on
#   costs nothing.
# Here: cpt_ray's walk hands each function its parent.
# Exits non-zero if this has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tree-sitter==0.26.1 tree-sitter-javascript==0.25.0

"$folder/env/bin/python" - <<'PY'
import time

import tree_sitter_javascript
from tree_sitter import Language, Parser

parser = Parser(Language(tree_sitter_javascript.language()))
DEEP = 500


def innermost(calls: int):
    """The first function of the chain, whose call all others stand around, and its depth."""
    tree = parser.parse(b"p" + b".then(f => f)" * calls + b";")
    node, depth = tree.root_node, 0
    while node.named_child_count and node.type != "arrow_function":
        node, depth = node.named_children[0], depth + 1
    return tree, node, depth


def microseconds(calls: int) -> float:
    tree, node, depth = innermost(calls)
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(200):
            assert node.parent is not None
        best = min(best, time.process_time() - begun)
    print(f"{calls:>6} calls: depth {depth:>6}, parent in {best * 5_000:9.2f} microseconds")
    return best


shallow, deep = microseconds(DEEP), microseconds(16 * DEEP)
assert deep > 6 * shallow, "the parent no longer takes longer the deeper the node: mend this script's claim"
print("as stated")
PY
