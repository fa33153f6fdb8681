"""Definitions and their documentation in a tree-sitter tree, by the rows of `grammars`.

The tree is walked from its root, but only along the paths that lead to functions (keywords or a query in C say where
those are), so that none is lost uncounted and parsing alone decides the speed.
"""

from __future__ import annotations

import importlib
import re
from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from itertools import islice, takewhile
from typing import NamedTuple

from tree_sitter import Language, Node, Parser, Query, QueryCursor, Tree

from cpt_ray.code import documentation as doc
from cpt_ray.code.grammar import Grammar, Style, keyword_places, text_of
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.errors import UserError


class Comments(NamedTuple):
    """Comments (and attributes between them) that precede `anchor`, in the order of the file."""

    nodes: tuple[Node, ...]
    anchor: int


class Definition(NamedTuple):
    """A function in a tree. It reaches from the start of `first` (decorators, attributes) to the end of `last`.

    `nested`: it stands in another function. `before` are the comments that may document it, the nearest first.
    """

    node: Node
    first: Node
    last: Node
    name: str
    qualname: str
    nested: bool
    before: tuple[Comments, ...]


class Documentation(NamedTuple):
    """Where a definition's documentation stands: its literals or comments, and the statement that holds a literal."""

    parts: tuple[Node, ...]
    statement: Node | None

    def text(self, source: bytes, grammar: Grammar) -> str | None:
        """The text before cleaning; None where a literal is invalid or a comment is not about the function."""
        if grammar.style is None:
            return doc.python_text(self.parts, source)
        return grammar.style.read(doc.without_markers(self.parts, source))


class TooSlow(Exception):
    """The parser spent far more steps than any real source of this size takes."""


@cache
def parser_of(language: str) -> Parser:
    """This process's parser for `language`, whose grammar has passed its self-test.

    Raises UserError where the grammar is not installed, or where a new version of it no longer finds the documented
    functions of the examples: an upgrade that silently loses every docstring is how miners have died before.
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
    """Raise UserError unless `parser` finds exactly what the grammar's examples say is documented."""
    for example in grammar.examples:
        source = example.source.encode()
        try:
            found = documented(parse(parser, source), source, grammar)
        except ValueError as error:  # a query names a node type that is no more
            found = {"no such node": str(error)}
        if found != example.documented:
            raise UserError(
                f"the installed grammar of {grammar.language} finds {found} documented in its example,"
                f" not {dict(example.documented)}",
                where=grammar.module,
                fix="install the version pinned in pyproject.toml",
            )


def documented(tree: Tree, source: bytes, grammar: Grammar) -> dict[str, str]:
    """Summaries of the documented functions with a body, by qualified name."""
    found = {}
    for definition in definitions(tree, source, grammar):
        if definition.nested and not grammar.inner:
            continue
        where = documentation(definition, source, grammar)
        text = where.text(source, grammar) if where and has_body(definition.node, grammar) else None
        if text:
            found[definition.qualname] = doc.summary(doc.clean(text), tags=grammar.style is not None)
    return found


def parse(parser: Parser, source: bytes, reports_per_byte: float = 0.2) -> Tree:
    """Parse UTF-8 source, giving up with TooSlow after a number of steps proportional to its size.

    The parser reports every hundred steps: 0.006 reports a byte over installed Python packages, 0.03 at most in a file.
    Counting them instead of reading a clock makes the same file fail everywhere, or nowhere.
    """
    budget = int(reports_per_byte * (5_000 + len(source)))
    views: list[memoryview] = []
    parsed = False

    def over_budget(_offset: int, _error: bool) -> bool:
        nonlocal budget
        budget -= 1
        return budget < 0

    def read(offset: int, _point: object) -> memoryview | bytes:
        if parsed:  # a node is asked for its text, which takes bytes alone
            return source[offset:]
        views.append(memoryview(source)[offset:])
        return views[-1]

    try:
        return parser.parse(read, progress_callback=over_budget)
    except ValueError as error:
        parser.reset()
        raise TooSlow from error
    finally:
        for view in views:  # the parser keeps a reference to each for ever, and with it to the source
            view.release()
        parsed = True


def _starts(tree: Tree, source: bytes, grammar: Grammar) -> list[int]:
    """Bytes in order such that every function holds one of them: the language's keywords, else where functions begin."""
    if grammar.keywords:
        parts = [(part.start_byte, part.end_byte) for part in tree.included_ranges]
        return sorted(place for part in parts for place in keyword_places(source, grammar, *part))
    query = _query(tree.language, grammar.functions | grammar.values)
    return sorted(node.start_byte for node in QueryCursor(query).captures(tree.root_node).get("function", []))


@cache
def _query(language: Language, names: frozenset[str]) -> Query:
    return Query(language, f"[{' '.join(f'({name})' for name in sorted(names))}] @function")


def is_damaged(node: Node, grammar: Grammar) -> bool:
    """Whether a function cannot be told from what the grammar failed to read in it."""
    return node.has_error and (grammar.tolerates is None or not grammar.tolerates(node))


def errors(tree: Tree) -> list[Node]:
    """The nodes of what the grammar could not read, the outermost ones, and of the ends that it missed."""
    found: list[Node] = []
    todo = [tree.root_node]
    while todo:
        node = todo.pop()
        if node.is_error or (node.is_missing and node.type != ";"):
            found.append(node)
        else:
            todo += [child for child in node.children if child.has_error]
    return found


def damage(tree: Tree, lost: Iterable[Node]) -> int:
    """Bytes that the grammar could not read: error nodes, and the functions `lost` because one is in them."""
    total = end = 0
    for node in sorted([*lost, *errors(tree)], key=lambda node: node.start_byte):
        total += max(0, node.end_byte - max(end, node.start_byte))
        end = max(end, node.end_byte)
    return total


class _Frame(NamedTuple):
    """A node to walk: what its definitions are called after, what they reach over and may be documented by.

    `reach` is the first and the last node of the definition that is looked for, where it began further out.
    """

    node: Node
    scope: tuple[str, ...]
    bound: str
    reach: tuple[Node, Node] | None
    before: tuple[Comments, ...]
    nested: bool


def definitions(tree: Tree, source: bytes, grammar: Grammar) -> list[Definition]:
    """Every function of the tree, wherever it stands, by its first byte."""
    starts = _starts(tree, source, grammar)
    targets, defines = grammar.functions | grammar.values, grammar.defines
    out: list[Definition] = []
    taken: set[int] = set()  # reaches whose first definition has been met: the next begins for itself
    # A list and not recursion, because hostile sources nest deeper than Python's stack.
    around = () if grammar.around is None else grammar.around(tree.root_node, source)
    todo = [_Frame(tree.root_node, around, "", None, (), False)]
    while todo:
        frame = todo.pop()
        children = frame.node.named_children
        inside: list[_Frame] = []
        position = bisect_left(starts, frame.node.start_byte)
        following = starts[position] if position < len(starts) else len(source)
        for i, child in enumerate(children):
            if following >= child.end_byte:  # most siblings hold no function, and cost no more than this
                continue
            begin = child.start_byte
            if following < begin:
                position = bisect_left(starts, begin, position)
                if position == len(starts):
                    break
                following = starts[position]
                if following >= child.end_byte:
                    continue
            kind = child.type
            before, reach = frame.before, frame.reach
            if reach is not None and reach[1].id in taken:
                reach = None
            lead = None
            if i:
                run, lead = _run(children, i, source, grammar)
                if not run and children[i - 1].has_error:
                    run = _held(children[i - 1])
                elif not run and grammar.spills:
                    run = _end(children[i - 1], child.start_point.column, source)[1]
                before = (Comments(run, begin), *before[:DEEPEST]) if run else before
            own = reach or (lead or child, child)
            if kind in targets or (defines is not None and defines(child, source)):
                taken.add(own[1].id)
                names = _names(child, frame.node, frame.bound, source, grammar)
                scope = _owner(frame.scope) if frame.bound.startswith(OWN) else frame.scope
                qualname = ".".join((*scope, *names))
                last = _end(own[1], child.start_point.column, source)[0] if grammar.spills else own[1]
                out.append(Definition(child, own[0], last, names[-1], qualname, frame.nested, before))
                if position + 1 < len(starts) and starts[position + 1] < child.end_byte:
                    scope = (*scope, *filter(None, names)) if len(scope) < DEEPEST else scope
                    inside.append(_Frame(child, scope, "", None, (), True))
            elif kind in grammar.scopes:
                name = _bound(child.child_by_field_name(grammar.scopes[kind]), source).partition("<")[0]
                name = name or ("" if frame.bound in grammar.unnamed else frame.bound)
                parts = (name,) if grammar.divides is None else grammar.divides.split(name)
                scope = (*frame.scope, *parts) if name and len(frame.scope) < DEEPEST else frame.scope
                inside.append(_Frame(child, scope, "", None, before, frame.nested))
            elif kind in grammar.bindings:
                bound = frame.bound or _bound(child.child_by_field_name(grammar.bindings[kind]), source)
                if reach is not None and any(one.type == kind for one in islice(children, i)):
                    own = (lead or child, child)  # of `let a, b = ...` the second begins for itself
                inside.append(_Frame(child, frame.scope, bound, own, before, frame.nested))
            elif kind in grammar.wrappers:
                inside.append(_Frame(child, frame.scope, frame.bound, own, before, frame.nested))
            elif kind in grammar.carries and (grammar.binds is None or grammar.binds(child, frame.node, source)):
                inside.append(_Frame(child, frame.scope, frame.bound, reach, before, frame.nested))
            else:
                inside.append(_Frame(child, frame.scope, "", None, before, frame.nested))
        todo.extend(reversed(inside))
    out.sort(key=lambda definition: definition.first.start_byte)
    return out


DEEPEST = 100
"""Scopes that a name tells, and comments that are kept: hostile sources nest a hundred thousand deep."""
OWN = ("this.", "$this->")


def _owner(scope: tuple[str, ...]) -> tuple[str, ...]:
    """What `this` is in a function: of a constructor its class, of any other the function."""
    return scope[:-1] if scope[-1:] == ("constructor",) or scope[-1:] == ("__construct",) else scope


MOST_LEADS = 100
"""Attributes and overloads before a function that are looked at: of a thousand overloads each has all before it."""


def _run(children: list[Node], i: int, source: bytes, grammar: Grammar) -> tuple[tuple[Node, ...], Node | None]:
    """The comments and leading siblings directly before child `i`, and the first sibling that is part of it."""
    nodes: list[Node] = []
    lead: Node | None = None
    j = i - 1
    leads = 0
    while j >= 0 and leads < MOST_LEADS:
        sibling = children[j]
        if sibling.type.endswith("comment"):
            if grammar.style is None:
                break
        elif grammar.leads is not None and grammar.leads(sibling, children[i], source):
            lead = sibling
            leads += 1
        elif sibling.type not in grammar.passed:
            break
        nodes.append(sibling)
        j -= 1
    nodes.reverse()
    return tuple(nodes), lead


def _held(node: Node) -> tuple[Node, ...]:
    """The comments that a node without its last sign holds: a macro's call in the place of a declaration (`NO_COPY(A)`)."""
    children = node.children
    if not children or not children[-1].is_missing:
        return ()
    return tuple(takewhile(lambda child: child.type.endswith("comment"), reversed(children[:-1])))[::-1]


def _end(node: Node, column: int, source: bytes) -> tuple[Node, tuple[Node, ...]]:
    """The node with which `node` really ends, and the comments behind that, no deeper than `column`, which it spills."""
    end, spilled, inner = node, tuple[Node, ...](), node
    while (children := inner.named_children) and not source[children[-1].end_byte : inner.end_byte].strip():
        own = len(children)
        while own and children[own - 1].type.endswith("comment") and children[own - 1].start_point.column <= column:
            own -= 1
        if not own:
            break
        inner = children[own - 1]
        if own < len(children):
            end, spilled = inner, (*children[own:], *spilled)
    return end, spilled


def _names(node: Node, parent: Node, bound: str, source: bytes, grammar: Grammar) -> tuple[str, ...]:
    if grammar.names is not None:
        found = grammar.names(node, parent, source)
        if found:
            return found
    if bound:
        own = next((word for word in OWN if bound.startswith(word)), "")
        return tuple(bound.removeprefix(own).split("."))
    return (_bound(node.child_by_field_name("name"), source),)


def _bound(node: Node | None, source: bytes) -> str:
    """A name as it is written, of one line, without the quotes of a string."""
    text = text_of(node, source)
    if len(text) >= 200:
        return ""
    return text if text.isidentifier() else " ".join(text.split()).strip("'\"")


def has_body(node: Node, grammar: Grammar) -> bool:
    """Whether a function is implemented where it stands, not only declared."""
    return not grammar.body or body_of(node, grammar) is not None


def body_of(node: Node, grammar: Grammar) -> Node | None:
    """What implements a function, without its head; None where it has none, or its grammar no name for it."""
    field, *kinds = grammar.body.split() or ["body"]
    found = node.child_by_field_name(field)
    if found is not None or not kinds:
        return found
    return next((one for one in node.named_children if one.type == field or one.type in kinds), None)


def documentation(definition: Definition, source: bytes, grammar: Grammar) -> Documentation | None:
    """The docstring of a definition, or the comments that document it by its language's rule; None without either."""
    if grammar.docstring is not None:
        found = grammar.docstring(definition.node, source)
        return Documentation(*found) if found else None
    assert grammar.style is not None
    candidates = [*_within(definition, grammar.style, source), *definition.before]
    start = definition.first.start_byte
    for comments in candidates:
        # Some grammars begin a block with the line end after the comment that stands in front of its first function.
        gap = source[comments.anchor : start] if start - comments.anchor < 200 else b"?"
        written = gap.strip()
        if not written or (grammar.style.between is not None and grammar.style.between.fullmatch(gap)):
            follows = comments.anchor if written else max(start, comments.anchor)
            parts = _documenting(comments, follows, source, grammar.style)
            if parts:
                return Documentation(parts, None)
    parts = () if grammar.style.inner is None else _inner(definition.node, grammar.style.inner, source)
    return Documentation(parts, None) if parts else None


def _inner(function: Node, style: re.Pattern[bytes], source: bytes) -> tuple[Node, ...]:
    """The comments at the beginning of a body that `style` matches."""
    body = function.child_by_field_name("body")
    if body is None or style.match(source[body.start_byte + 1 : body.end_byte].lstrip()) is None:
        return ()
    return tuple(takewhile(lambda node: style.match(source, node.start_byte) is not None, body.named_children))


def _within(definition: Definition, style: Style, source: bytes) -> list[Comments]:
    """Comments between an attribute and the name of a function, where the grammar puts them inside the function."""
    node = definition.node
    opening = source.find(b"/*", node.start_byte, node.end_byte)
    name = node.child_by_field_name("name") if opening >= 0 else None
    if name is None or opening >= name.start_byte:
        return []
    inner = [c for c in node.children if c.end_byte <= name.start_byte]
    for i in range(len(inner) - 1, 0, -1):
        if inner[i].type == "comment":
            following = inner[i + 1].start_byte if i + 1 < len(inner) else name.start_byte
            return [Comments((inner[i],), following)]
    return []


def _documenting(comments: Comments, follows: int, source: bytes, style: Style) -> tuple[Node, ...]:
    """Those of the comments that document what begins at `follows`."""
    parts: list[Node] = []
    for node in reversed(comments.nodes):
        start, end = node.start_byte, node.end_byte
        while end > start and source[end - 1] in b"\r\n":  # some grammars count the line end to the comment
            end -= 1
        gap = source[end:follows]
        between = gap.strip()
        # The semicolon of a signature is no part of it.
        if between and (between != b";" or node.type.endswith("comment")):
            break
        lines = gap.count(b"\n")
        is_doc = style.opens.match(source, start) is not None
        block = source[start : start + 2] in (b"/*", b"=b")
        if is_doc:
            if style.own_line and source[source.rfind(b"\n", 0, start) + 1 : start].strip(b" \t\x0c"):
                break
            allowed = None if style.joins and style.blank_lines is None else 1
            if not parts:
                allowed = None if style.blank_lines is None else style.blank_lines + 1
            if allowed is not None and lines > allowed:
                break
            if parts and block and not style.joins:
                break
            parts.append(node)
            if block and not style.joins and not style.above:
                break
        elif parts and not style.joins:
            break
        follows = start
    parts.reverse()
    return tuple(parts)
