"""The text of a documentation: literals and comments become plain text, of which the first paragraph is the summary.

What a comment's markup means is its language's business (`markup`); here only its markers go.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

_SECTION = re.compile(
    # reST and epydoc fields, Javadoc tags
    r"\s*(?:[:@](?:param|parameter|arg|args|argument|keyword|kwarg|type|returns?|rtype|raises?|throws?|yields?|var|ivar|cvar"
    r"|see|since|author|deprecated|example|template|api|public|private|internal|ignore|access|static|todo)\b"
    # doctests, reST directives, Markdown's blocks of code
    r"|>>>|\.\. \w[\w:-]*::|```|~~~"
    # Google and NumPy headings
    r"|(?:Args|Arguments|Parameters?|Params|Returns?|Raises|Yields|Keyword Args|Keyword Arguments|Examples?|Notes?"
    r"|See Also|Attributes|Usage|References|Inputs?|Outputs?|Shape|Warnings?|Todo)\s*:?\s*$"
    # one parameter's description: `input_ids (`torch.LongTensor` of shape ...): ...`
    r"|[`*]*\w+[`*]* \([^()]*(?:\([^()]*\)[^()]*)*\)\s*:)"
)
_TAG = re.compile(r"\s*[@\\][A-Za-z]")
_CALL = re.compile(r"\s*[\w.]+\(.*\)(?:\s*->.*)?\s*$")
"""What a docstring begins with that tells how a function is called, before what it does."""
_HEADING = re.compile(r"\s*(?:#{1,6} \S|={1,6} ?\w)")
"""Of Markdown and RDoc."""
_UNDERLINE = re.compile(r"\s*([=\-~^\"*#+])\1{2,}\s*$")
_STAR = re.compile(r"\n[ \t]*\*(?: |(?=\n)|\Z)?")
_STARLESS = re.compile(r"\n(?![ \t]*(?:\*|\n|\Z))")
_AT_MARGIN = re.compile(r"\n\S")
"""A further line that is not indented: no indentation is common to all of them."""
_LINE_MARKER = re.compile(r"(?:///?[/!]?|#+)(?:<(?![\w/!]))?(?: |$)?")
_LINE_MARKERS = re.compile(r"^[ \t\x0b\x0c]*" + _LINE_MARKER.pattern, re.MULTILINE)
_DOC_ATTRIBUTE = re.compile(r'#!?\[\s*doc\s*=\s*r?#*"(.*)"#*\s*\]\Z', re.DOTALL)


def python_text(parts: tuple[Node, ...], source: bytes) -> str | None:
    """The value of the docstring made of these adjacent literals, before cleaning; None if it is no valid Python.

    Most docstrings hold no backslash and are cut out; `ast.literal_eval`, which runs nothing, evaluates the others.
    """
    texts = []
    for part in parts:
        opening, closing = part.children[0], part.children[-1]
        raw = source[opening.end_byte : closing.start_byte]
        if b"\\" not in raw or b"r" in source[opening.start_byte : opening.end_byte].lower():
            texts.append(_lines(raw.decode()))
            continue
        literal = _lines(source[part.start_byte : part.end_byte].decode())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an unknown escape such as \d is the author's business
                value = ast.literal_eval(literal)
        except (SyntaxError, ValueError):
            return None
        # A lone surrogate (\ud800) is a valid character of Python but not of UTF-8.
        texts.append(value.encode("utf-8", "replace").decode())
    return "".join(texts)


def without_markers(parts: tuple[Node, ...], source: bytes) -> str:
    """The text of comments without what makes them comments, line ends as `\\n`."""
    run = source[parts[0].start_byte : parts[-1].end_byte]
    if len(parts) > 1 and _are_lines(run, len(parts)):
        return "\n".join([line.rstrip() for line in _LINE_MARKERS.sub("", run.decode().rstrip("\n")).split("\n")])
    lines: list[str] = []
    for part in parts:
        text = _lines(source[part.start_byte : part.end_byte].decode()).rstrip("\n")
        if text.startswith("/*"):
            inner = text.removesuffix("*/")[2:].lstrip("*!") if len(text) > 4 else ""
            if "\n" not in inner:
                lines.append(inner.strip())
            elif _STARLESS.search(inner) is None:
                lines += _STAR.sub("\n", inner.strip(" \t")).split("\n")
            else:
                first, *rest = inner.split("\n")
                lines += [first.strip(), *_dedented(rest)]
        elif text.startswith("=begin"):
            lines += text.split("\n")[1:-1]
        elif text.startswith(("#[", "#![")):  # what is not a literal (`include_str!`) stands elsewhere
            attribute = _DOC_ATTRIBUTE.match(text)
            lines += [] if attribute is None else attribute[1].replace('\\"', '"').replace("\\n", "\n").split("\n")
        else:
            lines.append(_LINE_MARKER.sub("", text, count=1).rstrip())
    return "\n".join(lines)


def _are_lines(run: bytes, count: int) -> bool:
    """Whether these are `count` comments of a line each, with nothing between them: then they are read at once."""
    if run.rstrip(b"\n").count(b"\n") != count - 1 or b"\r" in run or not run.startswith((b"//", b"#")):
        return False
    return not any(mark in run for mark in (b"/*", b"#[", b"#![", b"=begin"))


def _dedented(lines: list[str]) -> list[str]:
    return inspect.cleandoc("\n" + "\n".join(lines)).split("\n")


def clean(text: str) -> str:
    """`inspect.cleandoc`, without its trailing spaces: common indentation and blank edges taken away."""
    plain = "\t" not in text and ("\n" not in text or _AT_MARGIN.search(text) is not None)
    return text.strip() if plain else inspect.cleandoc(text).strip()


def summary(docstring: str, *, tags: bool = False) -> str:
    """The first paragraph on one line: up to a blank line, a section, a field list, a doctest, a block of code, an underline.

    A heading before it is no part of it.

    With `tags`, any `@word` at a line's beginning ends it too, as every tool that reads such comments has it.
    """
    kept: list[str] = []
    for line in docstring.split("\n"):
        if not line.strip():
            if kept and (tags or len(kept) > 1 or _CALL.match(kept[0]) is None):
                break
            kept.clear()
            continue
        if _SECTION.match(line) or (tags and _TAG.match(line)):
            break
        if _HEADING.match(line):
            if kept:
                break
        elif not _UNDERLINE.match(line):
            kept.append(line)
        elif kept:
            break
    return " ".join(" ".join(kept).split())


def _lines(text: str) -> str:
    """Line ends as Python's own reader sees them."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
