"""What a language must say of itself to be mined: one row, complete, with the examples that hold it to its word."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tree_sitter import Node
else:  # options import the table of languages, and must not wait for a parser
    Node = Any


@dataclass(frozen=True)
class Example:
    """Source in which exactly these functions are documented, with these summaries, by qualified name."""

    source: str
    documented: Mapping[str, str]


@dataclass(frozen=True)
class Style:
    """How comments document: what begins one (`opens`), and which of several before a definition count.

    `blank_lines` may stand between the documentation and its definition (None: any number). `joins`: all documenting
    comments before a definition are one text, otherwise the nearest block or run of lines. `own_line`: a comment that
    ends a line of code is none. `between`: what else may stand before the definition.
    `above`: lines directly above a block are the beginning of its text. `inner` is how a body begins that documents its
    function, where nothing before it does. `read` makes text of what is left without markers, None where it documents no
    function.
    """

    opens: re.Pattern[bytes]
    read: Callable[[str], str | None]
    blank_lines: int | None = None
    joins: bool = False
    own_line: bool = False
    above: bool = False
    between: re.Pattern[bytes] | None = None
    inner: re.Pattern[bytes] | None = None


@dataclass(frozen=True)
class Grammar:
    """One language. Names are node types of the pinned tree-sitter grammar, all fields by kind of node.

    Counted as functions: `functions`, `values` (nameless ones, which take the name of what binds them) and what `defines`
    says is one. Everything else is looked through:
    - `scopes` give the name in the field given to what is defined inside (classes, modules);
    - `bindings` give their name to the value in them (`a = function ...`);
    - `wrappers` begin before their definition and belong to it (decorators, `export`, the statement of a binding);
    - `carries` stand between wrapper, binding and function; any other node ends their reach;
    - `leads`: whether a sibling before a definition, the second node, belongs to it (attributes, signatures);
    - `passed` may stand between a documentation and its definition, and belong to neither (`#pragma`, `#region`).
    `names` is, of a node and its parent (which a node finds by a search from the root), the qualified name where the field
    "name" is not enough. `body` names the field or the kinds without which a function is a mere declaration; empty: there
    are none. `inner`: documented functions inside functions count.
    `around` is the scope that a file declares for all that stands in it. `divides` parts the names in one scope's name.
    `binds` may refuse a node that carries; `unnamed` bindings name no scope. A scope without a field, or without a name
    in it, is called as its binding.
    `tolerates`: whether a function with a place that the grammar cannot read is whole all the same, its name too.
    `docstring` finds the string literals that document, with the statement holding them; otherwise `style` does.
    `dialect`: a file with this near its top is read by the grammar of that language, and keeps this one's name.
    `spills`: what is ended by its indentation holds the comments below it too, which are the next definition's.
    `keywords` are words of which every function holds one, where there are such: they lead to them faster than a query.
    `any_case`: they may be written in capitals too.
    """

    language: str
    extensions: tuple[str, ...]
    module: str
    functions: frozenset[str]
    examples: tuple[Example, ...]
    entry: str = "language"
    values: frozenset[str] = frozenset()
    defines: Callable[[Node, bytes], bool] | None = None
    scopes: Mapping[str, str] = field(default_factory=dict)
    bindings: Mapping[str, str] = field(default_factory=dict)
    wrappers: frozenset[str] = frozenset()
    carries: frozenset[str] = frozenset()
    leads: Callable[[Node, Node, bytes], bool] | None = None
    passed: frozenset[str] = frozenset()
    names: Callable[[Node, Node, bytes], tuple[str, ...]] | None = None
    around: Callable[[Node, bytes], tuple[str, ...]] | None = None
    divides: re.Pattern[str] | None = None
    binds: Callable[[Node, Node, bytes], bool] | None = None
    tolerates: Callable[[Node], bool] | None = None
    body: str = "body"
    inner: bool = False
    unnamed: frozenset[str] = frozenset()
    docstring: Callable[[Node, bytes], tuple[tuple[Node, ...], Node] | None] | None = None
    style: Style | None = None
    keywords: tuple[str, ...] = ()
    any_case: bool = False
    spills: bool = False
    dialect: tuple[re.Pattern[bytes], str] | None = None


CONDITIONS = re.compile(rb"(?:\s*#[ \t]*if[^\n\\]*\n)+\s*")
"""Preprocessor conditions between a comment and what it documents."""


@cache
def _words(keywords: tuple[str, ...]) -> tuple[re.Pattern[bytes], ...]:
    # A pattern that begins with letters is searched for ten times as fast as one that begins with a choice or a \b.
    return tuple(re.compile(rb"%s\b(?<!\w%s)" % (word.encode(), word.encode())) for word in keywords)


def keyword_places(source: bytes, grammar: Grammar, start: int = 0, end: int = sys.maxsize) -> Iterator[int]:
    """The first bytes of the grammar's keywords in `source` between `start` and `end`, word after word."""
    if grammar.any_case:
        text = source[start:end].lower()
        return (start + found.start() for word in _words(grammar.keywords) for found in word.finditer(text))
    return (found.start() for word in _words(grammar.keywords) for found in word.finditer(source, start, end))


def kinds(names: str) -> frozenset[str]:
    """A set of node types from words."""
    return frozenset(names.split())


def fields(pairs: str) -> dict[str, str]:
    """`kind=field` words as a mapping."""
    return dict(pair.split("=") for pair in pairs.split())


def of_kind(names: str) -> Callable[[Node, Node, bytes], bool]:
    """A predicate for `leads`: the type of the sibling is one of these words."""
    wanted = kinds(names)
    return lambda node, _of, _source: node.type in wanted


def text_of(node: Node | None, source: bytes) -> str:
    return "" if node is None else source[node.start_byte : node.end_byte].decode()
