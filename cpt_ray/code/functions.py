"""Mining: source files in, one row for each documented function out, its docstring taken out of its code.

1. A file's bytes are brought to UTF-8, and a test, a generated or an oversized file is left out.
2. tree-sitter parses it once; functions of the file's and its classes' scopes are candidates.
3. The docstring (or the comment before it) is cut out by byte span, so that the code still parses; both become text.
4. Rules in `filters` leave out what nobody would search for. Each leaving out is counted by name in the ledger.

Nothing of what is mined is imported or run. Rows depend on the file's bytes, its path and the options alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash
from tree_sitter import Node

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.stage import Stage
from cpt_ray.code import documentation as doc
from cpt_ray.code import filters
from cpt_ray.code.grammars import GRAMMARS, Grammar, language_of
from cpt_ray.code.licences import file_licence
from cpt_ray.code.options import MineOptions
from cpt_ray.code.sources import to_utf8
from cpt_ray.code.syntax import Definition, Documentation, TooSlow, definitions, documentation, parse, parser_of

FUNCTIONS = pa.schema(
    [
        ("function_id", pa.string()),
        ("group", pa.string()),
        ("version", pa.string()),
        ("path", pa.string()),
        ("language", pa.string()),
        ("name", pa.string()),
        ("qualname", pa.string()),
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
    ]
)
"""One documented function, decorators included. Lines count from 1, both ends included; bytes from 0, end excluded."""


class Source(NamedTuple):
    """One file: path relative to its distribution or repository, and its bytes or the reason there are none."""

    path: str
    data: bytes | None
    reason: str | None = None


class Origin(NamedTuple):
    """Where files come from; `licence` (SPDX) holds unless a file's header says otherwise."""

    group: str
    version: str
    licence: str


def text_hash(text: str) -> int:
    """xxh3_64 of the text with every run of whitespace as one space: equal hashes, equal content."""
    return xxhash.xxh3_64_intdigest(" ".join(text.split()).encode("utf-8", "surrogatepass"))


def mine_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of a distribution's files: `{"group", "version", "licence", "files": [[absolute, relative], ...]}`."""
    origin = Origin(shard["group"], shard.get("version") or "", shard.get("licence") or "")
    return mine(_read(sorted(shard["files"], key=lambda file: file[1]), options), origin, options)


def mine(sources: Iterable[Source], origin: Origin, options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of `sources` as a FUNCTIONS table by path and first byte, and the ledger of `files` and `functions`."""
    rows: list[dict[str, Any]] = []
    files: Counter[str | None] = Counter()
    functions: Counter[str | None] = Counter()
    for source in sources:
        reason, found, reasons = mine_source(source, origin, options)
        files[reason] += 1
        functions.update(reasons)
        rows += found
    rows.sort(key=lambda row: (row["path"], row["start_byte"]))
    ledger = Ledger.count("files", files.elements()) + Ledger.count("functions", functions.elements())
    return pa.Table.from_pylist(rows, schema=FUNCTIONS), ledger


def mine_source(
    source: Source, origin: Origin, options: MineOptions
) -> tuple[str | None, list[dict[str, Any]], list[str | None]]:
    """One file: why it was left out (None: it was parsed), its rows, and for each function why it was left out."""
    language = language_of(os.path.splitext(source.path)[1].lower())
    if language is None or language not in options.languages:
        return "other_language", [], []
    if options.skip_tests and filters.is_test_path(source.path):
        return "test", [], []
    if source.data is None:
        return source.reason or "unreadable", [], []
    if len(source.data) > options.max_file_bytes:
        return "too_large", [], []
    data = to_utf8(source.data)
    if data is None:
        return "not_utf8", [], []
    if options.skip_generated and filters.is_generated(data):
        return "generated", [], []
    grammar = GRAMMARS[language]
    if grammar.keyword is not None and grammar.keyword not in data:
        return "no_functions", [], []
    try:
        tree = parse(parser_of(language), data)
    except TooSlow:
        return "too_slow", [], []
    if tree.root_node.has_error:
        return "syntax_error", [], []
    licence = file_licence(data, origin.licence)
    rows: list[dict[str, Any]] = []
    reasons: list[str | None] = []
    for definition in definitions(tree, data, grammar):
        found = _function(definition, data, grammar, options)
        if isinstance(found, str):
            reasons.append(found)
            continue
        reasons.append(None)
        rows.append(_row(definition, found, source.path, grammar, origin, licence))
    return None, rows, reasons


class Text(NamedTuple):
    """What is kept of a function."""

    docstring: str
    summary: str
    code: str


def _function(definition: Definition, source: bytes, grammar: Grammar, options: MineOptions) -> Text | str:
    """The text of one definition, or why it is left out; cheap rules come before dear ones."""
    found = documentation(definition, source, grammar)
    if found is None:
        return "no_docstring"
    if filters.is_dunder(definition.name):
        return "dunder"
    if options.skip_tests and filters.is_test_name(definition.name):
        return "test"
    text = doc.comment_text(found.parts, source) if found.statement is None else doc.python_text(found.parts, source)
    if text is None:
        return "invalid_docstring"
    if len(text) > options.max_docstring_chars:
        return "docstring_too_long"
    docstring = doc.clean(text)
    summary = doc.summary(docstring)
    reason = filters.prose_reason(docstring, summary, min_words=options.min_words)
    if reason is not None:
        return reason
    if found.statement is not None and _is_trivial(found.statement, source):
        return "trivial_body"
    size = definition.outer.end_byte - definition.outer.start_byte
    if size > 4 * (options.max_code_chars + options.max_docstring_chars):  # UTF-8 has up to four bytes a character
        return "code_too_long"
    code = code_without(definition, found, source)
    if len(code) > options.max_code_chars:
        return "code_too_long"
    if sum(1 for line in code.split("\n") if line.strip()) < options.min_code_lines:
        return "code_too_short"
    return Text(docstring, summary, code)


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


def code_without(definition: Definition, found: Documentation, source: bytes) -> str:
    """The definition's code without its docstring, moved to the left margin; it parses to the same tree otherwise.

    What stands inside strings of several lines is not moved. Line ends are `\\n`.
    """
    outer = definition.outer
    start, end = outer.start_byte, outer.end_byte
    if found.statement is None:
        pieces = [(start, end)]
    else:
        pieces = [(start, found.statement.start_byte), (_after(found.statement, source, end), end)]
    margin = source[source.rfind(b"\n", 0, start) + 1 : start]
    code = b"".join(source[a:b] for a, b in pieces)
    if margin and not margin.strip(b" \t\x0c"):
        code = _dedent(code, margin, pieces, outer, source)
    text = code.decode().rstrip()
    return text.replace("\r\n", "\n") if "\r" in text else text


_REST_OF_LINE = re.compile(rb"[ \t\x0c]*(?:;[ \t\x0c]*)?(?:#[^\n]*)?(?:\r?\n|$)")
_SEMICOLON = re.compile(rb"[ \t\x0c]*(?:;[ \t\x0c]*)?")
_BLANK_LINES = re.compile(rb"(?:[ \t\x0c]*\r?\n)*[ \t\x0c]*")


def _after(statement: Node, source: bytes, end: int) -> int:
    """The first byte of what follows a docstring on a line of its own or before a semicolon."""
    whole = _REST_OF_LINE.match(source, statement.end_byte, end)
    if whole is None:
        semicolon = _SEMICOLON.match(source, statement.end_byte, end)
        return semicolon.end() if semicolon else statement.end_byte
    # The docstring's own indentation stays in front and serves the next line, whose own goes with the blank lines.
    blank = _BLANK_LINES.match(source, whole.end(), end)
    return blank.end() if blank else whole.end()


def _dedent(code: bytes, margin: bytes, pieces: list[tuple[int, int]], outer: Node, source: bytes) -> bytes:
    """Take `margin` from the front of each line that does not begin inside a string."""
    if not (b'"""' in code or b"'''" in code or b"`" in code or b"\\\n" in code or b"\\\r\n" in code):
        return code.replace(b"\n" + margin, b"\n")
    inside = _string_lines(outer)
    out = []
    for a, b in pieces:
        row = outer.start_point.row + source.count(b"\n", outer.start_byte, a)
        for i, line in enumerate(source[a:b].split(b"\n")):
            if i:
                out.append(b"\n")
            movable = i > 0 and row + i not in inside
            out.append(line.removeprefix(margin) if movable else line)
    return b"".join(out)


def _string_lines(outer: Node) -> set[int]:
    """Rows of the file that begin inside a string of several lines."""
    rows: set[int] = set()
    todo = [outer]
    while todo:
        node = todo.pop()
        if node.start_point.row == node.end_point.row:
            continue
        if "string" in node.type or node.type.startswith("heredoc"):
            rows.update(range(node.start_point.row + 1, node.end_point.row + 1))
        else:
            todo += node.named_children
    return rows


def _row(
    definition: Definition, text: Text, path: str, grammar: Grammar, origin: Origin, licence: str
) -> dict[str, Any]:
    outer = definition.outer
    identity = f"{origin.group}\n{origin.version}\n{path}\n{outer.start_byte}\n{text.code}"
    words = len(text.docstring.split())
    return {
        "function_id": xxhash.xxh3_128_hexdigest(identity.encode()),
        "group": origin.group,
        "version": origin.version,
        "path": path,
        "language": grammar.language,
        "name": definition.name,
        "qualname": definition.qualname,
        "start_line": outer.start_point.row + 1,
        "end_line": outer.end_point.row + 1,
        "start_byte": outer.start_byte,
        "end_byte": outer.end_byte,
        "docstring": text.docstring,
        "summary": text.summary,
        "code": text.code,
        "licence": licence,
        "content_hash": text_hash(text.code),
        # Of duplicates the best documented one survives; 20 words are half the way.
        "quality": words / (words + 20),
    }


def _read(files: Iterable[tuple[str, str]], options: MineOptions) -> Iterator[Source]:
    for absolute, relative in files:
        path = relative.replace(os.sep, "/")
        if options.skip_tests and filters.is_test_path(path):
            yield Source(path, None, "test")
            continue
        try:
            with open(absolute, "rb") as handle:
                yield Source(path, handle.read(options.max_file_bytes + 1))
        except OSError:
            yield Source(path, None, "unreadable")


MINE = Stage("functions", version=1, gives=FUNCTIONS, unit="files", run=mine_shard)
