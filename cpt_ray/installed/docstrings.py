"""The docstrings of a module, read by `ast` without importing anything, and their rendering as HTML."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from html import escape
from typing import NamedTuple


class Entry(NamedTuple):
    """A documented thing: `kind` is module, class or function; `name` is qualified within the module."""

    kind: str
    name: str
    docstring: str


class NotPython(ValueError):
    """The bytes are not a module this Python can parse."""


_STRINGS = re.compile(rb'"""(.*?)"""|\'\'\'(.*?)\'\'\'', re.S)


def may_have_docstrings(source: bytes, characters: int) -> bool:
    """False when all triple-quoted strings together are shorter than `characters`: ten times cheaper than parsing."""
    total = 0
    for match in _STRINGS.finditer(source):
        total += match.end() - match.start() - 6
        if total >= characters:
            return True
    return False


def entries(source: bytes, name: str) -> list[Entry]:
    """Every docstring of a module in source order, cleaned as `inspect.cleandoc` does. Raises NotPython."""
    try:
        with warnings.catch_warnings():
            # Old escapes in other people's strings are no concern of ours.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotPython(str(error)) from error
    found = []
    if docstring := _docstring(tree):
        found.append(Entry("module", name, docstring))
    found += _below(tree.body, "")
    return found


def _below(body: list[ast.stmt], prefix: str) -> Iterator[Entry]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            if docstring := _docstring(node):
                yield Entry("class", prefix + node.name, docstring)
            yield from _below(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (docstring := _docstring(node)):
            yield Entry("function", prefix + node.name, docstring)


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = ast.get_docstring(node, clean=False)
    # Lone surrogates ("\ud800" in a string literal) cannot be written as UTF-8.
    return inspect.cleandoc(text).encode("utf-8", "replace").decode("utf-8").strip() if text else ""


# --- HTML -------------------------------------------------------------------------------------------------------------

_UNDERLINE = re.compile(r"([-=~^\"'#*+.`_])\1{2,}\s*$")
_BULLET = re.compile(r"(\s*)([-*+•]|\d+[.)]|\(\d+\))\s+(\S.*)")
_SECTION = re.compile(r"[A-Z][A-Za-z ]{2,30}:$")
_DIRECTIVE = re.compile(r"\.\.\s+([\w:-]+)::\s*(.*)")
_FIELD = re.compile(r":(\w+)(?:\s+([^:]+))?:\s*(.*)")
_CODE_DIRECTIVES = {"code", "code-block", "sourcecode", "math", "testcode", "doctest", "plot", "parsed-literal"}


def html(docstring: str, level: int) -> str:
    """A docstring as HTML blocks; its section headings become h<level>.

    It reads what docstrings have in common (paragraphs, underlined and Google-style sections, bullets, field lists,
    definitions, literal and doctest blocks) rather than one markup exactly, and never fails: what it does not know is a
    paragraph.
    """
    return "".join(_blocks(docstring.expandtabs().splitlines(), level))


def _blocks(lines: list[str], level: int) -> Iterator[str]:
    at, literal_next = 0, False
    while at < len(lines):
        line = lines[at]
        text = line.strip()
        if not text:
            at += 1
            continue
        if literal_next and _indent(line):
            block, at = _indented(lines, at, 1)
            yield _pre(block)
            literal_next = False
            continue
        literal_next = False
        if text.startswith(("```", "~~~")):
            end = next((i for i in range(at + 1, len(lines)) if lines[i].strip().startswith(text[:3])), len(lines))
            yield _pre(lines[at + 1 : end])
            at = end + 1
        elif text.startswith(">>>"):
            end = next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))
            yield _pre(lines[at:end])
            at = end
        elif at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1].strip()) and not _UNDERLINE.match(text):
            yield f"<h{level}>{inline(text)}</h{level}>\n"
            at += 2
        elif _UNDERLINE.fullmatch(text):
            at += 1  # the overline of a title, or a rule
        elif _SECTION.fullmatch(text) and at + 1 < len(lines) and _indent(lines[at + 1]) > _indent(line):
            yield f"<h{level}>{inline(text[:-1])}</h{level}>\n"
            block, at = _indented(lines, at + 1, _indent(line) + 1)
            yield from _blocks(block, min(level + 1, 6))
        elif match := _DIRECTIVE.match(text):
            block, at = _indented(lines, at + 1, _indent(line) + 1)
            block = [row for row in block if not re.match(r"\s*:\w+:", row)]
            if match[1] in _CODE_DIRECTIVES:
                yield _pre(block)
            else:
                # .. note:: and its like: the words matter, the box does not
                yield from _blocks([match[2], *block], level)
        elif match := _FIELD.match(text):
            block, at = _indented(lines, at + 1, _indent(line) + 1)
            name = f"<strong>{inline(match[2].strip())}</strong>: " if match[2] else f"<em>{escape(match[1])}</em>: "
            yield f"<p>{name}{inline(_joined([match[3], *block]))}</p>\n"
        elif _BULLET.match(line):
            items, at = _items(lines, at)
            yield "<ul>\n" + "".join(f"<li>{inline(item)}</li>\n" for item in items) + "</ul>\n"
        elif at + 1 < len(lines) and lines[at + 1].strip() and _indent(lines[at + 1]) > _indent(line):
            block, at = _indented(lines, at + 1, _indent(line) + 1)
            yield f"<dl><dt>{inline(text)}</dt>\n<dd>" + "".join(_blocks(block, min(level + 1, 6))) + "</dd></dl>\n"
        else:
            indent = _indent(line)
            end = at + 1
            while end < len(lines) and lines[end].strip() and _indent(lines[end]) == indent:
                starts_other = _BULLET.match(lines[end]) or lines[end].strip().startswith((">>>", "```", ".. ", ":"))
                underlined = end + 1 < len(lines) and _UNDERLINE.match(lines[end + 1].strip())
                if starts_other or underlined:
                    break
                end += 1
            words = _joined(lines[at:end])
            if words.endswith("::"):
                literal_next, words = True, words[:-1]
            if words.strip(" :"):
                yield f"<p>{inline(words)}</p>\n"
            at = end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _indented(lines: list[str], at: int, least: int) -> tuple[list[str], int]:
    """The block from `at` of lines indented by at least `least` (blank lines within it too), dedented."""
    end = at
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) >= least):
        end += 1
    block = lines[at:end]
    while block and not block[-1].strip():
        block.pop()
    margin = min((_indent(line) for line in block if line.strip()), default=0)
    return [line[margin:] for line in block], end


def _items(lines: list[str], at: int) -> tuple[list[str], int]:
    items: list[str] = []
    margin = _indent(lines[at])
    while at < len(lines):
        match = _BULLET.match(lines[at])
        if match and _indent(lines[at]) >= margin:
            items.append(match[3])
            at += 1
        elif items and lines[at].strip() and _indent(lines[at]) > margin:
            items[-1] += " " + lines[at].strip()
            at += 1
        elif not lines[at].strip() and at + 1 < len(lines) and _BULLET.match(lines[at + 1]):
            at += 1
        else:
            break
    return items, at


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _pre(lines: list[str]) -> str:
    code = "\n".join(lines).strip("\n")
    return f"<pre><code>{escape(code)}</code></pre>\n" if code.strip() else ""


_ROLE = re.compile(r":[\w:+.-]+:`(?:~|!)?([^`<]+?)(?:\s*&lt;[^`]*)?`")
_CODE = re.compile(r"``(.+?)``|`([^`]+)`_{0,2}")
_STRONG = re.compile(r"\*\*(\S(?:.*?\S)?)\*\*")


def inline(text: str) -> str:
    """Escaped text with roles, literals and emphasis as elements."""
    marked = _ROLE.sub(r"<code>\1</code>", escape(text, quote=False))
    marked = _CODE.sub(lambda m: f"<code>{m[1] or m[2]}</code>", marked)
    return _STRONG.sub(r"<strong>\1</strong>", marked)
