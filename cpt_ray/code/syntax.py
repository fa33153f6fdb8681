"""Definitions and their documentation in a tree-sitter tree, by the rows of `grammars`.

The tree is walked only as far as definitions reach: the body of a function is never entered. On Python this takes a
twentieth of the time of a tree-sitter Query over the whole tree, so that parsing alone decides the speed.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import NamedTuple

from tree_sitter import Language, Node, Parser, Tree

from cpt_ray.code.grammars import GRAMMARS, Grammar
from cpt_ray.errors import UserError

STRING_PREFIXES = frozenset({b"", b"r", b"u"})
"""Lower-cased prefixes of a Python string literal that may be a docstring: bytes and f-strings are none."""


class Definition(NamedTuple):
    """A function in a tree: `node` defines it, `outer` is node or the wrapper that begins before it (decorators)."""

    node: Node
    outer: Node
    name: str
    qualname: str
    comments: tuple[Node, ...]


class Documentation(NamedTuple):
    """Where a definition's documentation stands: the string literals or comments, and the statement that holds them.

    `statement` is None for comments, which stand outside the definition.
    """

    parts: tuple[Node, ...]
    statement: Node | None


class TooSlow(Exception):
    """The parser spent far more steps than any real source of this size takes."""


@cache
def parser_of(language: str) -> Parser:
    """This process's parser for `language`, whose grammar has passed its self-test.

    Raises UserError where the grammar is not installed, or where a new version of it no longer finds the documented
    functions of the sample: an upgrade that silently loses every docstring is how miners have died before.
    """
    grammar = GRAMMARS.get(language)
    if grammar is None:
        raise UserError(f"no grammar for {language!r}", where="languages", fix=f"choose among {', '.join(GRAMMARS)}")
    wheel = grammar.module.replace("_", "-")
    try:
        module = importlib.import_module(grammar.module)
    except ImportError as error:
        fix = f"pip install {wheel}"
        raise UserError(f"the grammar of {language} is not installed", where=wheel, fix=fix) from error
    parser = Parser(Language(getattr(module, grammar.entry)()))
    self_test(parser, grammar)
    return parser


def self_test(parser: Parser, grammar: Grammar) -> None:
    """Raise UserError unless `parser` finds exactly the documented functions of the grammar's sample."""
    source = grammar.sample.encode()
    found = tuple(
        definition.qualname
        for definition in definitions(parse(parser, source), source, grammar)
        if documentation(definition, source, grammar)
    )
    if found != grammar.expected:
        raise UserError(
            f"the installed grammar of {grammar.language} finds {list(found)} documented in its sample,"
            f" not {list(grammar.expected)}",
            where=grammar.module,
            fix="install the version pinned in pyproject.toml",
        )


def parse(parser: Parser, source: bytes, reports_per_byte: float = 0.2) -> Tree:
    """Parse UTF-8 source, giving up with TooSlow after a number of steps proportional to its size.

    The parser reports every hundred steps: 0.006 reports a byte over installed Python packages, 0.03 at most in a file.
    Counting them instead of reading a clock makes the same file fail everywhere, or nowhere.
    """
    budget = int(reports_per_byte * (5_000 + len(source)))

    def over_budget(_offset: int, _error: bool) -> bool:
        nonlocal budget
        budget -= 1
        return budget < 0

    try:
        return parser.parse(lambda offset, _: source[offset : offset + 65_536], progress_callback=over_budget)
    except ValueError as error:
        parser.reset()
        raise TooSlow from error


def definitions(tree: Tree, source: bytes, grammar: Grammar) -> list[Definition]:
    """Functions of the file's and its classes' scopes, by their first byte; functions in functions are left out."""
    found = _walk(tree.root_node, source, grammar)
    found.sort(key=lambda definition: definition.outer.start_byte)
    return found


def documentation(definition: Definition, source: bytes, grammar: Grammar) -> Documentation | None:
    """The docstring of a definition, or the comment that ends on the line before it; None without either."""
    if grammar.comments is None:
        return _docstring(definition.node, source)
    return _comment(definition, source, grammar.comments)


def _walk(root: Node, source: bytes, grammar: Grammar) -> list[Definition]:
    functions, scopes, through = grammar.functions, grammar.scopes, grammar.through
    wrappers, bindings, wants_comments = grammar.wrappers, grammar.bindings, grammar.comments is not None
    found: list[Definition] = []
    # (container, names of the scopes around it, wrapper its definitions begin with, comments before that wrapper);
    # a list and not recursion, because hostile sources nest deeper than Python's stack.
    todo: list[tuple[Node, tuple[str, ...], Node | None, tuple[Node, ...]]] = [(root, (), None, ())]
    while todo:
        container, scope, wrapper, before = todo.pop()
        run = before
        for child in container.named_children:
            kind = child.type
            if kind in functions:
                name = _text(child.child_by_field_name("name"), source)
                qualname = ".".join((*scope, *_receiver(child, source), name))
                found.append(Definition(child, wrapper or child, name, qualname, run))
            elif kind in wrappers:
                todo.append((child, scope, wrapper or child, run))
            elif kind in scopes:
                todo.append((child, (*scope, _text(child.child_by_field_name("name"), source)), None, ()))
            elif kind in through:
                todo.append((child, scope, None, run))  # the comment on its first definition may stand before it
            elif kind in bindings:
                name_field, value_field = bindings[kind]
                value = child.child_by_field_name(value_field)
                if value is not None and value.type in grammar.values:
                    name = _text(child.child_by_field_name(name_field), source)
                    qualname = ".".join((*scope, name))
                    found.append(Definition(value, wrapper or child, name.rpartition(".")[2], qualname, run))
            elif wants_comments and kind.endswith("comment"):
                run = (*run, child)
                continue
            run = before
    return found


def _docstring(function: Node, source: bytes) -> Documentation | None:
    body = function.child_by_field_name("body")
    # The first byte settles most functions without making a node.
    if body is None or source[body.start_byte : body.start_byte + 1] not in (b'"', b"'", b"r", b"R", b"u", b"U", b"("):
        return None
    statement = body.named_child(0)
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
    return Documentation(parts, statement)


def _prefix(string: Node, source: bytes) -> bytes:
    start = source[string.start_byte : string.start_byte + 4]
    return start[: min(i for i in (start.find(b'"'), start.find(b"'"), len(start)) if i >= 0)].lower()


def _comment(definition: Definition, source: bytes, openings: tuple[str, ...]) -> Documentation | None:
    parts: list[Node] = []
    row = definition.outer.start_point.row
    for comment in reversed(definition.comments):
        text = source[comment.start_byte : comment.start_byte + 4]
        if comment.end_point.row < row - 1 or not text.startswith(tuple(o.encode() for o in openings)):
            break
        parts.insert(0, comment)
        row = comment.start_point.row
        if text.startswith(b"/*"):
            break
    return Documentation(tuple(parts), None) if parts else None


def _text(node: Node | None, source: bytes) -> str:
    return "" if node is None else source[node.start_byte : node.end_byte].decode()


def _receiver(node: Node, source: bytes) -> tuple[str, ...]:
    """Go writes a method's type before its name: `func (a *A) F()` is A.F."""
    receiver = node.child_by_field_name("receiver") if node.type == "method_declaration" else None
    words = _text(receiver, source).strip("()").replace("*", " ").partition("[")[0].split()
    return (words[-1],) if words else ()
