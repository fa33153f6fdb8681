"""Python: the docstring is the first statement of a body."""

from __future__ import annotations

from cpt_ray.code.grammar import Example, Grammar, Node, fields, kinds

STRING_PREFIXES = frozenset({b"", b"r", b"u"})
"""Lower-cased prefixes of a string literal that may be a docstring: bytes and f-strings are none."""


def docstring(function: Node, source: bytes) -> tuple[tuple[Node, ...], Node] | None:
    """The literals of a function's docstring and the statement that holds them, as the compiler sees it."""
    body = function.child_by_field_name("body")
    # The first byte settles most functions without making a node.
    if body is None or source[body.start_byte : body.start_byte + 1] not in (b'"', b"'", b"r", b"R", b"u", b"U", b"("):
        return None
    statement = next(iter(body.named_children), None)
    if statement is None or statement.type != "expression_statement" or statement.named_child_count != 1:
        return None
    if any(child.type == "," for child in statement.children):  # `"a",` is a tuple
        return None
    expression: Node | None = statement.named_child(0)
    while expression is not None and expression.type == "parenthesized_expression":
        inner = [child for child in expression.named_children if child.type != "comment"]
        expression = inner[0] if len(inner) == 1 else None
    if expression is None or expression.type not in ("string", "concatenated_string"):
        return None
    strings = [expression] if expression.type == "string" else expression.named_children
    parts = tuple(string for string in strings if string.type == "string")
    if any(_prefix(part, source) not in STRING_PREFIXES for part in parts):
        return None
    return parts, statement


def _prefix(string: Node, source: bytes) -> bytes:
    start = source[string.start_byte : string.start_byte + 4]
    return start[: min(i for i in (start.find(b'"'), start.find(b"'"), len(start)) if i >= 0)].lower()


PYTHON = Grammar(
    language="python",
    extensions=(".py", ".pyw"),
    module="tree_sitter_python",
    functions=kinds("function_definition"),
    scopes=fields("class_definition=name"),
    wrappers=kinds("decorated_definition"),
    docstring=docstring,
    keywords=("def",),
    examples=(
        Example(
            'class A:\n    @b\n    async def f(self):\n        "Doc of f."\n        return 1\n\n'
            'def g():\n    """Doc of g."""\n\ndef h():\n    return "not a docstring"\n',
            {"A.f": "Doc of f.", "g": "Doc of g."},
        ),
    ),
)
