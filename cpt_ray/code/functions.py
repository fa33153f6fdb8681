"""Mining: source files in, one row for each documented function out, its docstring taken out of its code.

1. A file's bytes are brought to UTF-8, and a test, a generated or an oversized file is left out.
2. tree-sitter parses it once; every function is counted, and those that can be documented are candidates.
3. The docstring (or the comment before it) is cut out by byte span, so that the code still parses; both become text.
4. Rules in `filters` leave out what nobody would search for. Each leaving out is counted by name in the ledger.

Where the grammar cannot read a place, the functions around it go as `syntax_error` and the others stay; the ledger's
`bytes`, of files with such a place, say how much that was.

Nothing of what is mined is imported or run. Rows depend on the file's bytes, its path and the options alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash
from tree_sitter import Node

from cpt_ray.artifacts.examples import LONGEST, Sampler, having, order_of
from cpt_ray.artifacts.ledger import Ledger, counted
from cpt_ray.artifacts.stage import Stage
from cpt_ray.code import documentation as doc
from cpt_ray.code import filters
from cpt_ray.code.damage import reread
from cpt_ray.code.grammar import Grammar, keyword_places
from cpt_ray.code.grammars import grammar_of, language_of
from cpt_ray.code.licences import file_licence
from cpt_ray.code.options import MineOptions
from cpt_ray.code.sources import to_utf8
from cpt_ray.code.syntax import (
    Definition,
    Documentation,
    TooSlow,
    body_of,
    damage,
    definitions,
    documentation,
    has_body,
    parse,
    parser_of,
)
from cpt_ray.masks import email_addresses, masked
from cpt_ray.words import text_hash

FUNCTIONS = pa.schema(
    [
        ("function_id", pa.string()),
        ("group", pa.string()),
        ("version", pa.string()),
        ("path", pa.string()),
        ("language", pa.string()),
        ("name", pa.string()),
        ("qualname", pa.string()),
        ("signature", pa.string()),
        ("start_line", pa.int32()),
        ("end_line", pa.int32()),
        ("start_byte", pa.int64()),
        ("end_byte", pa.int64()),
        ("docstring", pa.string()),
        ("summary", pa.string()),
        ("code", pa.string()),
        ("licence", pa.string()),
        ("content_hash", pa.uint64()),
        ("quality", pa.float32()),
        ("masked", pa.int32()),
        ("stars", pa.int32()),
        ("forks", pa.int32()),
        ("message", pa.string()),
    ]
)
"""One documented function, decorators included. Lines count from 1, both ends included; bytes from 0, end excluded.

`signature` is the beginning of `code` up to its body, "" where the grammar has no name for that; `masked` is how many
places of its docstring and code have a word such as <email> instead of what the file has there; `stars` and `forks` are
those of the repository when GitHub's API was asked, null where it was not; `message` is what the last commit that changed
it says, if it changed little else and `mine.history` reads that far (`history`).
"""


class Origin(NamedTuple):
    """Where files come from; `licence` (SPDX) holds unless a file's header says otherwise.

    `stars` and `forks` are the forge's, where it was asked.
    """

    group: str
    version: str
    licence: str
    stars: int | None = None
    forks: int | None = None


class Source(NamedTuple):
    """One file: path relative to its distribution or repository, and its bytes or the reason there are none.

    `origin` is its own where those around it come from elsewhere.
    """

    path: str
    data: bytes | None
    reason: str | None = None
    origin: Origin | None = None


def mine_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of a distribution's files: `{"group", "version", "licence", "files": [[absolute, relative], ...]}`."""
    origin = Origin(shard["group"], shard.get("version") or "", shard.get("licence") or "")
    return mine(_read(sorted(shard["files"], key=lambda file: file[1]), options), origin, options)


class LeftOut(NamedTuple):
    """A function that is no row, and why."""

    reason: str
    definition: Definition


class Mined(NamedTuple):
    """What one file gave: why it was left out (None: it was read), its rows, and for each function why it was left out.

    `size` and `damaged` are bytes of the file and of those the grammar could not read. `left_out` are the functions that
    are not rows; `data` is what they are bytes of; `of` are the language and the licence of the file.
    """

    reason: str | None
    rows: list[dict[str, Any]]
    reasons: list[str | None]
    size: int = 0
    damaged: int = 0
    left_out: tuple[LeftOut, ...] = ()
    data: bytes = b""
    masked: Counter[str] = Counter()
    of: Mapping[str, str] = MappingProxyType({})


def mine(sources: Iterable[Source], origin: Origin, options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of `sources` as a FUNCTIONS table by group, path and first byte.

    The ledger counts `files`, the `bytes` of those with a place that cannot be read, what was `masked` in functions that are
    kept, by kind, and all `functions` in files read.
    """
    rows: list[dict[str, Any]] = []
    files: Counter[str | None] = Counter()
    functions: Counter[str | None] = Counter()
    parts: dict[tuple[str, str, str], Counter[str | None]] = defaultdict(Counter)
    hidden: Counter[str] = Counter()
    size = damaged = 0
    dropped = Sampler()
    for source in sources:
        mined = mine_source(source, source.origin or origin, options)
        files[mined.reason] += 1
        _show(dropped, mined, (source.origin or origin).group, source.path, options)
        hidden += mined.masked
        functions.update(mined.reasons)
        for column, value in mined.of.items():
            parts["functions", column, value].update(mined.reasons)
        rows += mined.rows
        if mined.damaged:
            size += mined.size
            damaged += mined.damaged
    rows.sort(key=lambda row: (row["group"], row["version"], row["path"], row["start_byte"]))
    ledger = Ledger.count("files", files.elements())
    if damaged:
        ledger += Ledger.of("bytes", read=size, kept=size - damaged, dropped={"syntax_error": damaged})
    if hidden:
        ledger += Ledger.of("masked", read=hidden.total(), kept=0, dropped=hidden)
    ledger += Ledger.count("functions", functions.elements())
    ledger = replace(ledger, parts={at: counted(reasons.elements()) for at, reasons in parts.items()})
    return pa.Table.from_pylist(rows, schema=FUNCTIONS), ledger.showing(dropped)


def _show(dropped: Sampler, mined: Mined, group: str, path: str, options: MineOptions) -> None:
    """Examples of what a file lost, masked as its rows are."""
    if mined.reason is not None:
        dropped.add("files", mined.reason, f"{group}/{path}", group=group, path=path)
    parts = [having(*one) for one in mined.of.items()]
    limits: dict[str, int] = {}
    for reason, definition in mined.left_out:
        start = definition.first.start_byte
        key = f"{group}/{path}@{start}"
        if reason not in limits:
            limits[reason] = dropped.limit("functions", reason, parts)
        if order_of(key) <= limits[reason]:
            at = f"{path}:{definition.first.start_point.row + 1}"
            text = mined.data[start : min(definition.last.end_byte, start + 4 * LONGEST)].decode("utf-8", "replace")
            text = masked(text, options.mask)[0]
            dropped.add("functions", reason, key, parts, group=group, path=at, text=text)


def mine_source(source: Source, origin: Origin, options: MineOptions) -> Mined:
    """The functions of one file."""
    if source.data is None and source.reason is not None:
        return Mined(source.reason, [], [])
    language = language_of(source.path)
    if language is None or language not in options.languages:
        return Mined("other_language", [], [])
    reason = filters.path_reason(source.path, options)
    if reason is not None:
        return Mined(reason, [], [])
    if source.data is None:
        return Mined("unreadable", [], [])
    if len(source.data) > options.max_file_bytes:
        return Mined("too_large", [], [])
    data = to_utf8(source.data, language)
    if data is None:
        return Mined("not_utf8", [], [])
    if options.skip_generated:
        reason = filters.generated_reason(data, language)
        if reason is not None:
            return Mined(reason, [], [])
    read_by, grammar = grammar_of(language, data)
    if grammar.keywords and next(keyword_places(data, grammar), None) is None:
        return Mined("no_functions", [], [])
    try:
        tree = parse(parser_of(read_by), data)
    except TooSlow:
        return Mined("too_slow", [], [])
    found = definitions(tree, data, grammar)
    broken = tree.root_node.has_error
    lost = [False] * len(found)
    if broken:
        found, lost = reread(found, tree, data, grammar, parser_of(read_by))
        if all(lost):
            return Mined("syntax_error", [], [])
    licence = file_licence(data, origin.licence)
    rows: list[dict[str, Any]] = []
    reasons: list[str | None] = []
    left_out: list[LeftOut] = []
    hidden: Counter[str] = Counter()
    for definition, damaged in zip(found, lost, strict=True):
        if definition.nested and not grammar.inner:
            text: Text | str = "nested"
        elif damaged:
            text = "syntax_error"
        else:
            text = _function(definition, data, grammar, options)
        if isinstance(text, str):
            reasons.append(text)
            left_out.append(LeftOut(text, definition))
            continue
        reasons.append(None)
        text, places = _masked(text, definition, data, grammar, options)
        hidden.update(places)
        rows.append(_row(definition, text, source.path, grammar, origin, licence, sum(places.values())))
    unread = damage(tree, [one.node for one, damaged in zip(found, lost, strict=True) if damaged]) if broken else 0
    about = {"language": language, "licence": licence}
    return Mined(None, rows, reasons, len(data), unread, tuple(left_out), data, hidden, about)


class Text(NamedTuple):
    """What is kept of a function."""

    docstring: str
    summary: str
    code: str
    signature: str


def _function(definition: Definition, source: bytes, grammar: Grammar, options: MineOptions) -> Text | str:
    """The text of one definition, or why it is left out; cheap rules come before dear ones."""
    if not has_body(definition.node, grammar):
        return "no_body"
    found = documentation(definition, source, grammar)
    if not definition.name:
        return "nested" if definition.nested else "anonymous"
    if found is None:
        return "nested" if definition.nested else "no_docstring"
    if filters.is_dunder(definition.name):
        return "dunder"
    if options.skip_tests and filters.is_test_name(definition.name, grammar.language):
        return "test"
    start, end = definition.first.start_byte, definition.last.end_byte
    written = sum(part.end_byte - part.start_byte for part in found.parts)
    if written > 4 * options.max_docstring_chars:  # UTF-8 has up to four bytes a character
        return "docstring_too_long"
    text = found.text(source, grammar)
    if text is None:
        return "invalid_docstring" if grammar.style is None else "not_of_function"
    if len(text) > options.max_docstring_chars:
        return "docstring_too_long"
    docstring = doc.clean(text)
    summary = doc.summary(docstring, tags=grammar.style is not None)
    reason = filters.prose_reason(docstring, summary, min_words=options.min_words)
    if reason is not None:
        return reason
    if grammar.style is not None and filters.is_code(docstring):
        return "commented_code"
    if found.statement is not None and _is_trivial(found.statement, source):
        return "trivial_body"
    if end - start > 4 * (options.max_code_chars + options.max_docstring_chars):
        return "code_too_long"
    code = code_without(definition, found, source)
    if len(code) > options.max_code_chars:
        return "code_too_long"
    if _written_lines(options.min_code_lines).match(code) is None:
        return "code_too_short"
    return Text(docstring, summary, code, _signature(definition, found, code, source, grammar))


def _signature(definition: Definition, found: Documentation, code: str, source: bytes, grammar: Grammar) -> str:
    """The beginning of `code` up to its body; "" where that is not known."""
    body = body_of(definition.node, grammar)
    if body is None:
        return ""
    head = source[definition.first.start_byte : body.start_byte].decode().strip()
    if not code.startswith(head):  # of several lines, or with the documentation in it
        head = code_without(definition, found, source, body.start_byte)
    return head if code.startswith(head) else ""


def _masked(
    text: Text, definition: Definition, source: bytes, grammar: Grammar, options: MineOptions
) -> tuple[Text, Mapping[str, int]]:
    """The text with what `options.mask` names masked, and how often. What is kept is decided before, on the file's words."""
    if not options.mask:
        return text, {}
    docstring, counts = masked(text.docstring, options.mask)
    code, more = masked(text.code, options.mask, spared=_code_like_addresses(definition, source))
    summary = doc.summary(docstring, tags=grammar.style is not None) if counts else text.summary
    signature, _ = masked(text.signature, options.mask)
    return Text(docstring, summary, code, signature if code.startswith(signature) else ""), counts + more


_PROSE = re.compile("string|str_text|comment|heredoc|nowdoc|text|regex")
_INSERTED = re.compile("interpol|substitution|embedded")


def _code_like_addresses(definition: Definition, source: bytes) -> set[str]:
    """What has the form of an e-mail address and is code: `this@Outer.name`, `a@b.T`."""
    start, end = definition.first.start_byte, definition.last.end_byte
    if b"@" not in source[start:end]:
        return set()
    text, found = source[start:end].decode(), set()
    for at, address in email_addresses(text):
        byte = start + len(text[:at].encode())
        node = definition.node.descendant_for_byte_range(byte, byte + len(address.encode()))
        while node is not None and node.id != definition.node.id and not _PROSE.search(node.type):
            node = None if _INSERTED.search(node.type) else node.parent
        if node is None or node.id == definition.node.id:
            found.add(address)
    return found


def _is_trivial(docstring: Node, source: bytes) -> bool:
    """Whether nothing follows the docstring but `pass`, `...` or `raise NotImplementedError`."""
    node = docstring.next_named_sibling
    seen = 0
    while node is not None:
        if node.type != "comment":
            seen += 1
            text = source[node.start_byte : node.end_byte]
            if seen > 1 or not (text in (b"pass", b"...") or text.startswith(b"raise NotImplementedError")):
                return False
        node = node.next_named_sibling
    return True


def code_without(definition: Definition, found: Documentation, source: bytes, until: int | None = None) -> str:
    """The definition's code without its documentation, moved to the left margin; it parses to the same tree otherwise.

    What stands inside strings of several lines is not moved. Line ends are `\\n`. `until` is a byte before which to stop.
    """
    start, end = definition.first.start_byte, until or definition.last.end_byte
    pieces: list[tuple[int, int]] = []
    at = start
    if found.statement is not None and found.statement.start_byte < end:
        pieces.append((start, found.statement.start_byte))
        at = _after(found.statement, source, end)
    else:
        for part in found.parts:
            if start <= part.start_byte < end:  # between an attribute and its function, or before a value
                pieces.append((at, part.start_byte))
                blank = _REST_AND_BLANK.match(source, part.end_byte, end)
                at = blank.end() if blank else part.end_byte
    pieces.append((at, end))
    margin = source[source.rfind(b"\n", 0, start) + 1 : start]
    code = b"".join(source[a:b] for a, b in pieces)
    if margin and not margin.strip(b" \t\x0c"):
        code = _dedent(code, margin, pieces, definition, source)
    text = code.decode().strip()
    return text.replace("\r\n", "\n") if "\r" in text else text


def undocumented(code: str, language: str) -> str:
    """`code` without the documentation of the first function in it that has one; what cannot be read stays as it is."""
    source = code.encode()
    spoken, grammar = grammar_of(language, source)
    try:
        tree = parse(parser_of(spoken), source)
    except TooSlow:
        return code
    for definition in definitions(tree, source, grammar):
        if found := documentation(definition, source, grammar):
            return code_without(definition, found, source)
    return code


@cache
def _written_lines(count: int) -> re.Pattern[str]:
    """What begins with that many lines with something on them."""
    return re.compile(rf"(?:\s*+\S[^\n]*+){{{count}}}")


_REST_OF_LINE = re.compile(rb"[ \t\x0c]*(?:;[ \t\x0c]*)?(?:#[^\n]*)?(?:\r?\n|$)")
_SEMICOLON = re.compile(rb"[ \t\x0c]*(?:;[ \t\x0c]*)?")
_BLANK_LINES = re.compile(rb"(?:[ \t\x0c]*\r?\n)*[ \t\x0c]*")
_REST_AND_BLANK = re.compile(rb"\s*")
_LONG_STRINGS = (
    (b'"', (b'"""',)),
    (b"'", (b"'''",)),
    (b"`", (b"`",)),
    (b"\\", (b"\\\n", b"\\\r\n")),
    (b"<<", (b"<<",)),
    (b"%", (b"%q", b"%Q", b"%(", b"%w", b"%i")),
)
"""What a string of several lines may begin with in any language, or what ends its line, by a sign that all of them hold and
most code does not; else a quote is left open."""


def _may_hold_long_strings(code: bytes) -> bool:
    for begins, marks in _LONG_STRINGS:
        if begins in code:
            for mark in marks:
                if mark in code:
                    return True
    return _has_open_quote(code, b'"') or _has_open_quote(code, b"'")


def _has_open_quote(code: bytes, quote: bytes) -> bool:
    """Whether a line has an odd number of quotes: then what stands between two of them reaches over its end."""
    if quote not in code:
        return False
    pieces = code.split(quote)
    return len(pieces) % 2 == 0 or b"\n" in b"".join(pieces[1::2])


def _after(statement: Node, source: bytes, end: int) -> int:
    """The first byte of what follows a docstring on a line of its own or before a semicolon."""
    whole = _REST_OF_LINE.match(source, statement.end_byte, end)
    if whole is None:
        semicolon = _SEMICOLON.match(source, statement.end_byte, end)
        return semicolon.end() if semicolon else statement.end_byte
    # The docstring's own indentation stays in front and serves the next line, whose own goes with the blank lines.
    blank = _BLANK_LINES.match(source, whole.end(), end)
    return blank.end() if blank else whole.end()


def _dedent(code: bytes, margin: bytes, pieces: list[tuple[int, int]], definition: Definition, source: bytes) -> bytes:
    """Take `margin` from the front of each line that does not begin inside a string."""
    if not _may_hold_long_strings(code):
        return code.replace(b"\n" + margin, b"\n")
    first, last = definition.first, definition.last
    roots = [first] if first.id == last.id else [first, definition.node, last]
    inside = set().union(*map(_string_lines, roots))
    out = []
    for a, b in pieces:
        row = first.start_point.row + source.count(b"\n", first.start_byte, a)
        for i, line in enumerate(source[a:b].split(b"\n")):
            if i:
                out.append(b"\n")
            movable = i > 0 and row + i not in inside
            out.append(line.removeprefix(margin) if movable else line)
    return b"".join(out)


def _string_lines(root: Node) -> set[int]:
    """Rows of the file that begin inside a string of several lines."""
    rows: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node.start_point.row == node.end_point.row:
            continue
        kind = node.type
        if "string" in kind or "heredoc" in kind or "nowdoc" in kind:
            rows.update(range(node.start_point.row + 1, node.end_point.row + 1))
        else:
            todo += node.named_children
    return rows


def _row(
    definition: Definition, text: Text, path: str, grammar: Grammar, origin: Origin, licence: str, places: int
) -> dict[str, Any]:
    first, last = definition.first, definition.last
    identity = f"{origin.group}\n{origin.version}\n{path}\n{first.start_byte}\n{text.code}"
    words = len(text.docstring.split())
    return {
        "function_id": xxhash.xxh3_128_hexdigest(identity.encode()),
        "group": origin.group,
        "version": origin.version,
        "path": path,
        "language": grammar.language,
        "name": definition.name,
        "qualname": definition.qualname,
        "signature": text.signature,
        "start_line": first.start_point.row + 1,
        "end_line": last.end_point.row + 1,
        "start_byte": first.start_byte,
        "end_byte": last.end_byte,
        "docstring": text.docstring,
        "summary": text.summary,
        "code": text.code,
        "licence": licence,
        "content_hash": text_hash(text.code),
        # Of duplicates the best documented one survives; 20 words are half the way.
        "quality": words / (words + 20),
        "masked": places,
        "stars": origin.stars,
        "forks": origin.forks,
    }


def _read(files: Iterable[tuple[str, str]], options: MineOptions) -> Iterator[Source]:
    for absolute, relative in files:
        path = relative.replace(os.sep, "/")
        reason = filters.path_reason(path, options)
        if reason is not None:
            yield Source(path, None, reason)
            continue
        try:
            with open(absolute, "rb") as handle:
                yield Source(path, handle.read(options.max_file_bytes + 1))
        except OSError:
            yield Source(path, None, "unreadable")


MINE = Stage("functions", version=11, gives=FUNCTIONS, unit="files", run=mine_shard)
