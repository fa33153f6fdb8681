#!/usr/bin/env bash
# tree-sitter-c 0.24.2 and tree-sitter-cpp 0.23.4: a macro with arguments takes the function's name, and no node says so.
#
# Expected: where the grammar cannot tell a macro from a function (it has no preprocessor), the function_definition has an
#   error in it (`has_error`), by which miners leave such functions out.
# Seen: `API EXPORT(x) int h(void) {...}` is a function called EXPORT in a tree without one error; in C++,
#   `static A * g(char *x) ACQUIRES(lock) {...}` is a function called ACQUIRES without an error, beside a declaration of g
#   that alone has one (a missing semicolon). With a macro of no arguments (`API int f(int x) {...}`) it is the reverse: the
#   name is right, the function whole, and `has_error` is true.
# Why it matters: leaving out functions by has_error, as peers do, loses every function behind an export macro (a third of
#   the functions of Boost and Eigen, a tenth of the Linux kernel's), and keeps those whose name and comment are wrong.
# Exits non-zero if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tree-sitter==0.26.1 tree-sitter-c==0.24.2 tree-sitter-cpp==0.23.4
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import tree_sitter_c
import tree_sitter_cpp
from tree_sitter import Language, Parser

print(*(f"{name} {version(name)}" for name in ("tree-sitter", "tree-sitter-c", "tree-sitter-cpp")))


def functions(grammar, source):
    """(name, has_error) of each function, and whether the tree has an error."""
    root = Parser(Language(grammar.language())).parse(source.encode()).root_node
    found = []
    for node in root.children:
        if node.type == "function_definition":
            declarator = node.child_by_field_name("declarator")
            while declarator.child_by_field_name("declarator") is not None:
                declarator = declarator.child_by_field_name("declarator")
            found.append((declarator.text.decode(), node.has_error))
    return found, root.has_error


cases = [
    ("C", tree_sitter_c, "API EXPORT(x) int h(void) { return 0; }", ([("EXPORT", False)], False)),
    ("C++", tree_sitter_cpp, "static A * g(char *x) ACQUIRES(lock)\n{ return 0; }", ([("ACQUIRES", False)], True)),
    ("C", tree_sitter_c, "API int f(int x) { return x; }", ([("f", True)], True)),
    ("C++", tree_sitter_cpp, "API int f(int x) { return x; }", ([("f", True)], True)),
]
for language, grammar, source, expected in cases:
    seen = functions(grammar, source)
    print(f"{language}: {source!r} -> {seen[0]}, error in the tree: {seen[1]}")
    assert seen == expected, seen
PYTHON
