"""Go: the comments that end on the line before a top-level declaration."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import godoc

MOST_VALUES = 100
"""Of one `var`, each of which is looked for among all of them."""


def names(node: Node, parent: Node, source: bytes) -> tuple[str, ...]:
    """A method's type stands before its name: `func (a *A) F()` is A.F. Of several values each has its own name."""
    if node.type == "func_literal":
        return _of_values(node, parent, source)
    name = text_of(node.child_by_field_name("name"), source)
    receiver = text_of(node.child_by_field_name("receiver"), source) if node.type == "method_declaration" else ""
    words = receiver.strip("()").replace("*", " ").partition("[")[0].split()
    return (words[-1], name) if words else ((name,) if name else ())


def _of_values(node: Node, values: Node, source: bytes) -> tuple[str, ...]:
    """`var a, b = 1, func() {}` is b."""
    spec = values.parent if values.type == "expression_list" and values.named_child_count <= MOST_VALUES else None
    if spec is None or spec.type != "var_spec":
        return ()
    names = spec.children_by_field_name("name")
    place = [value.id for value in values.named_children].index(node.id)
    return (text_of(names[place], source),) if place < len(names) else ()


GO = Grammar(
    language="go",
    extensions=(".go",),
    module="tree_sitter_go",
    functions=kinds("function_declaration method_declaration"),
    values=kinds("func_literal"),
    bindings=fields("var_spec=name"),
    wrappers=kinds("var_declaration"),
    carries=kinds("expression_list"),
    names=names,
    keywords=("func",),
    style=Style(re.compile(rb"//|/\*"), godoc, blank_lines=0, joins=True, own_line=True),
    examples=(
        Example(
            "package a\n\n// Detached.\n\n// F does [G].\n//\n//go:noinline\nfunc F() {}\n\n// G does.\n// More.\n"
            "func (a *A[T]) G() {}\n\nvar x = 1 // of x\nfunc none() {}\n\n//nolint:all\nfunc none2() {}\n\n"
            "// H does.\nvar H = func() {}\n\n/* I does. */\nfunc I() {}\n\n// J has no body.\nfunc J()\n",
            {"F": "F does G.", "A.G": "G does. More.", "H": "H does.", "I": "I does."},
        ),
    ),
)
