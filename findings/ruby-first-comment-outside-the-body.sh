#!/usr/bin/env bash
# tree-sitter-ruby 0.23.1 with tree-sitter 0.26.1: the comment of a class' first method is not in the body of the class.
#
# Expected: the comments of all methods of a class stand beside their methods, as in the other grammars (java, javascript,
#   php, rust ...).
# Seen: `body_statement` begins at the first *code*: the comment of the first method is a child of `class` (or `module`,
#   `singleton_class`), beside the body; those of the later methods are in the body. For the first method
#   `prev_named_sibling` is None. Python's grammar has the same with `block`, where it does no harm to docstrings.
# Why it matters: a miner of documentation that looks at the siblings of a method loses the first method of every class, which
#   is mostly `initialize` or the one that the class is for, and nothing tells; so does a query ((comment) . (method)).
# Here: cpt_ray looks before the body too.
# Exits non-zero if this has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tree-sitter==0.26.1 tree-sitter-ruby==0.23.1 tree-sitter-java==0.23.5
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import tree_sitter_java
import tree_sitter_ruby
from tree_sitter import Language, Parser, Query, QueryCursor

print(*(f"{name} {version(name)}" for name in ("tree-sitter", "tree-sitter-ruby", "tree-sitter-java")))
RUBY = b"class Store\n  # Opens it.\n  def open; end\n\n  # Closes it.\n  def close; end\nend\n"
JAVA = b"class Store {\n  /** Opens it. */\n  void open() {}\n\n  /** Closes it. */\n  void close() {}\n}\n"


def documented(grammar, source, comment, method):
    language = Language(grammar.language())
    root = Parser(language).parse(source).root_node
    query = Query(language, f"(({comment}) @doc . ({method} name: (identifier) @name))")
    matches = QueryCursor(query).matches(root)
    places = QueryCursor(Query(language, f"({comment}) @doc")).captures(root)["doc"]
    return [match["name"][0].text.decode() for _, match in matches], [node.parent.type for node in places]


ruby = documented(tree_sitter_ruby, RUBY, "comment", "method")
java = documented(tree_sitter_java, JAVA, "block_comment", "method_declaration")
print("ruby: documented by ((comment) . (method)):", ruby[0], "comments lie in", ruby[1])
print("java: documented by the same:", java[0], "comments lie in", java[1])
assert ruby == (["close"], ["class", "body_statement"]), ruby
assert java == (["open", "close"], ["class_body", "class_body"]), java
PYTHON
