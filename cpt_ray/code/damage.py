"""What a place that the grammar cannot read costs: itself, and not what stands around it.

Behind a quote or a brace that is never closed, or a word that is newer than the grammar, a parser may find no way back for
the rest of the file. But sources are laid out: a documented function is a piece that its indentation ends, in blocks whose
heads stand further to the left. Each piece whose function was lost is parsed again, with those heads and nothing else.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

from tree_sitter import Parser, Point, Range, Tree

from cpt_ray.code.grammar import Grammar, Style, keyword_places
from cpt_ray.code.syntax import DEEPEST, Definition, TooSlow, definitions, documentation, errors, is_damaged, parse

MOST_READINGS = 4
"""How often the bytes of a file may be parsed again, all pieces and their heads together: hostile ones nest without end."""
FAR = 10_000
"""Bytes behind a piece in which the ends of its blocks are looked for."""


class Lines(NamedTuple):
    """Whole lines of a file: the row of the first and of what follows them, their bytes, and how far the first is indented.

    What stands in an `unindented` block (a namespace) need not be further to the right.
    """

    row: int
    end_row: int
    start: int
    end: int
    column: int
    unindented: bool = False


class Piece(NamedTuple):
    """A documentation and what follows it to the end of its block, and the heads of the blocks it stands in."""

    lines: Lines
    heads: tuple[Lines, ...]


def reread(
    found: list[Definition], tree: Tree, source: bytes, grammar: Grammar, parser: Parser
) -> tuple[list[Definition], list[bool]]:
    """Of what was `found` in a tree with errors each function, by its first byte, and whether it is lost.

    Documented functions are found again whose piece can be read alone.
    """
    unsure = _unsure(found, source)
    lost = [i in unsure or is_damaged(one.node, grammar) for i, one in enumerate(found)]
    if grammar.style is None:
        return found, lost
    places = _places(found, lost, tree)
    settled: dict[int, Definition] = {}
    reach = 0
    for i, one in enumerate(found):
        sure = i not in unsure and not (one.nested and one.node.end_byte <= reach)
        if sure and (lost[i] or documentation(one, source, grammar) is not None):
            settled[one.node.start_byte] = one
        reach = max(reach, one.node.end_byte) if lost[i] else reach
    starts = sorted(settled)
    outer = 0 if grammar.around is None else sum(name.count(".") + 1 for name in grammar.around(tree.root_node, source))
    shallow = {start for start, one in settled.items() if one.qualname.count(".") <= outer}
    if not any(
        ((column and _next(starts, at) in shallow) or _meets(places, at, at + 1))
        and _may_define(source[at:end], grammar)
        for at, column, end in _begins(source, grammar.style)
    ):
        return found, lost  # nothing that is documented seems to have been lost, nor the block it stands in
    left = MOST_READINGS * len(source)
    again: dict[int, Definition] = {}
    for piece in pieces(source, grammar):
        start, end = piece.lines.start, piece.lines.end
        at = bisect_left(starts, start)
        there = settled[starts[at]] if at < len(starts) and starts[at] < end else None
        if there is None:
            wanted = _meets(places, start, end) and _may_define(source[start:end], grammar)
        else:  # the block it stands in may have been lost
            wanted = there.node.end_byte > end or there.qualname.count(".") < len(piece.heads)
        if not wanted:
            continue
        left -= sum(lines.end - lines.start for lines in (*piece.heads, piece.lines))
        if left < 0:
            break
        new = _alone(piece, source, grammar, parser)
        if new is not None and (there is None or len(new.qualname) >= len(there.qualname)):
            again[new.node.start_byte] = new
    return _together(found, lost, again, grammar)


def _together(
    found: Sequence[Definition], lost: Sequence[bool], again: Mapping[int, Definition], grammar: Grammar
) -> tuple[list[Definition], list[bool]]:
    """What was `found` and is not read `again` (by first byte), and what is; whether each is lost, by first byte."""
    ends = {(one.node.end_byte, one.name) for one in again.values()}
    parted = [
        (one, gone)
        for one, gone in zip(found, lost, strict=True)
        if one.node.start_byte not in again and not (gone and (one.node.end_byte, one.name) in ends)
    ]
    parted += [(one, is_damaged(one.node, grammar)) for one in again.values()]
    parted.sort(key=lambda part: part[0].first.start_byte)
    return [one for one, _ in parted], [gone for _, gone in parted]


def _places(found: Sequence[Definition], lost: Sequence[bool], tree: Tree) -> list[tuple[int, int]]:
    """Bytes in which a function may be that was not found, in order and apart: those that are lost, and what the grammar
    could not read outside of them, as far as the functions before and behind it."""
    places = _apart((one.node.start_byte + 1, one.node.end_byte) for one, gone in zip(found, lost, strict=True) if gone)
    starts = sorted(one.node.start_byte for one in found)
    ends = sorted(one.node.end_byte for one in found)
    outside = []
    for error in errors(tree):
        start, end = error.start_byte, error.end_byte
        within = bisect_right(places, (start, sys.maxsize)) - 1
        if within < 0 or places[within][1] < end:
            before, behind = bisect_right(ends, start), bisect_left(starts, end)
            start = ends[before - 1] if before else 0
            outside.append((start, starts[behind] if behind < len(starts) else tree.root_node.end_byte))
    return _apart((*places, *outside))


def _apart(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    apart: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if apart and start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end))
        else:
            apart.append((start, end))
    return apart


def _meets(places: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of the places has a byte in common with these."""
    before = bisect_left(places, (end, 0)) - 1
    return before >= 0 and places[before][1] > start


def _begins(source: bytes, style: Style) -> Iterator[tuple[int, int, int]]:
    """Where documentation begins a line, how far that is to the right, and where the next one begins."""
    begins = [(found.start(1), found.start(1) - found.start()) for found in _openings(style).finditer(source)]
    ends = [*(at for at, _ in begins[1:]), len(source)]
    return ((at, column, end) for (at, column), end in zip(begins, ends, strict=False))


def _next(starts: Sequence[int], at: int) -> int | None:
    following = bisect_left(starts, at)
    return starts[following] if following < len(starts) else None


@cache
def _openings(style: Style) -> re.Pattern[bytes]:
    return re.compile(rb"^[ \t]*(" + style.opens.pattern + rb")", re.MULTILINE)


def _unsure(found: Sequence[Definition], source: bytes) -> set[int]:
    """Which of them begin or end elsewhere, it seems.

    One holds another, or stands in it, and by their layout it is no deeper: an end was not found. Or what stands before it
    and belongs to it is no attribute that the grammar can read.
    """
    those: set[int] = set()
    around: list[tuple[int, int, int]] = []  # which one, how deep, where it ends
    for i, one in enumerate(found):
        while around and around[-1][2] <= one.node.start_byte:
            around.pop()
        line = source.rfind(b"\n", 0, one.first.start_byte) + 1
        before = source[line : one.first.start_byte]
        depth = len(before) - len(before.lstrip(b" \t"))
        for j, deep, _ in around:
            if deep >= depth and found[j].first.start_byte < line:
                those |= {i, j}
        if one.first.end_byte <= one.node.start_byte and one.first.has_error:
            those.add(i)
        around.append((i, depth, one.node.end_byte))
    return those


def _may_define(text: bytes, grammar: Grammar) -> bool:
    """Whether there may be a function with a body below a documentation."""
    code = text.partition(b"*/")[2] if text.lstrip().startswith(b"/*") else text
    if grammar.keywords:
        return next(keyword_places(code, grammar), None) is not None
    return b"(" in code and (b"{" in code or b"=>" in code)


def _alone(piece: Piece, source: bytes, grammar: Grammar, parser: Parser) -> Definition | None:
    """The function that the piece's documentation is of."""
    heads = sorted(piece.heads, key=lambda lines: lines.start)
    apart = [head for head, after in zip(heads, (*heads[1:], piece.lines), strict=False) if head.end <= after.start]
    parser.included_ranges = [*map(_range, (*apart, piece.lines)), *_closing(piece, source)]
    try:
        tree = parse(parser, source)
    except TooSlow:
        return None
    finally:
        parser.included_ranges = []
    for one in definitions(tree, source, grammar):
        if one.first.start_byte >= piece.lines.start:
            found = documentation(one, source, grammar)
            own = found is not None and found.parts[0].start_byte == piece.lines.start + piece.lines.column
            return one if own and one.node.end_byte <= piece.lines.end else None
    return None


def _range(lines: Lines) -> Range:
    return Range(Point(lines.row, 0), Point(lines.end_row, 0), lines.start, lines.end)


def _closing(piece: Piece, source: bytes) -> Iterator[Range]:
    """Ends from behind a piece, one for each head that opens a block."""
    braces = sum(source[head.start : head.end].rstrip().endswith(b"{") for head in piece.heads)
    ends = (_BRACE if braces else _END).finditer(source, piece.lines.end, piece.lines.end + FAR)
    at, row = piece.lines.end, piece.lines.end_row
    for end in islice(ends, braces or len(piece.heads)):
        row += source.count(b"\n", at, end.start())
        at = end.start()
        column = at - source.rfind(b"\n", 0, at) - 1
        yield Range(Point(row, column), Point(row, column + len(end[0])), at, end.end())


_BRACE, _END = re.compile(rb"\}"), re.compile(rb"\bend\b")
_LINE = re.compile(rb"([ \t]*)([^\s][^\n]*)\n?|[^\n]*\n")
_CLOSES = re.compile(rb"(?:\}|end\b)[;,)\]]*\s*(?://.*|#.*)?\Z")
_GOES_ON = re.compile(rb"[{)\]]")
_NO_CODE = re.compile(
    rb"//|/\*|#|(?!<\?)[-@?$%^&|!=<>+,;.*/]{2}|(?:public|private|protected|signals|Q_SIGNALS)(?:\s+slots)?\s*:"
)
"""Comments, directives, labels, and what no line begins with that opens a block: what a merge left, say."""
_OF_FILE = re.compile(rb"<\?|namespace\s+[\w.\\]+\s*;")
_UNINDENTED = re.compile(rb"(?:inline\s+)?namespace\b.*\{|extern\s+\"C\"\s*\{")


def pieces(source: bytes, grammar: Grammar) -> Iterator[Piece]:
    """The documented pieces of a file by their layout, in the order in which they end. One pass over its lines."""
    assert grammar.style is not None
    opens = grammar.style.opens
    above: list[Lines] = []
    heads: list[Lines] = []
    begun: list[Piece] = []
    row, documenting, until = -1, False, b""
    for line in _LINE.finditer(source):
        row += 1
        start, end, text = line.start(), line.end(), line[2]
        if until:  # a comment of several lines
            until = b"" if until in line[0] else until
            continue
        if text is None:
            continue
        column = len(line[1])
        is_doc = opens.match(source, start + column) is not None
        until = _unclosed(text)
        if (is_doc and documenting) or (not is_doc and _NO_CODE.match(text) is not None):
            continue
        documenting = is_doc
        while begun and (begun[-1].lines.column > column or (is_doc and begun[-1].lines.column == column)):
            yield _ended(begun.pop(), start, row)
        if is_doc:
            around = tuple(head for head in heads[:DEEPEST] if head.column < column or head.unindented)
            begun.append(Piece(Lines(row, row, start, start, column), (*above, *around)))
            continue
        closes = _CLOSES.match(text) is not None
        if closes and begun and begun[-1].lines.column == column:
            yield _ended(begun.pop(), end, row + 1)
        last = None
        while heads and heads[-1].column >= column and not (heads[-1].unindented and heads[-1].column == column):
            last = heads.pop()
        head = Lines(row, row + 1, start, end, column, _UNINDENTED.match(text) is not None)
        if _OF_FILE.match(text) is not None and len(above) < 2:
            above.append(head)
        elif last is not None and last.column == column and _GOES_ON.match(text) is not None:
            heads.append(last._replace(end=end, end_row=row + 1))  # a head of several lines
        elif closes and heads and heads[-1].column == column and last is None:
            heads.pop()
        elif not text.startswith(b"}"):
            heads.append(head)
    while begun:
        yield _ended(begun.pop(), len(source), row + 1)


def _unclosed(text: bytes) -> bytes:
    """What ends the comment that a line begins and does not end."""
    if text.startswith(b"/*") and b"*/" not in text:
        return b"*/"
    return b"=end" if text.startswith(b"=begin") else b""


def _ended(piece: Piece, end: int, row: int) -> Piece:
    return piece._replace(lines=piece.lines._replace(end=end, end_row=row))
