"""A distribution's long description as HTML: Markdown, reStructuredText or plain text, with nothing executed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from html import escape, unescape

from docutils.core import publish_parts
from docutils.utils import SystemMessage
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

LARGEST = 200_000
"""Characters that are rendered; a description beyond it is nearly always a change log appended to it."""

_RST_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "halt_level": 5,
    "report_level": 5,
    "initial_header_level": 2,
    "doctitle_xform": False,
    "syntax_highlight": "none",
    "math_output": "MathML",
    "embed_stylesheet": False,
    "stylesheet_path": "",
    "smart_quotes": False,
}


def html(text: str, content_type: str) -> str:
    """The description as an HTML fragment; markup that cannot be read is shown as plain text."""
    text = text.replace("\r\n", "\n")[:LARGEST]
    if content_type == "text/markdown":
        body = markdown(text)
    elif content_type == "text/x-rst":
        body = restructured(text)
    else:
        body = plain(text)
    return _without_relative_links(body)


def markdown(text: str) -> str:
    """CommonMark with tables. Raw HTML is not passed on: its text is kept, its tags are dropped."""
    return str(_markdown().render(text))


def restructured(text: str) -> str:
    """reStructuredText by docutils, file insertion and raw HTML off; plain text when docutils gives up."""
    try:
        return str(publish_parts(text, writer="html5", settings_overrides=_RST_SETTINGS)["body"])
    except (SystemMessage, ValueError, AttributeError, IndexError, KeyError, TypeError, AssertionError):
        # docutils raises what it likes on malformed input; the words are still worth reading
        return plain(text)


def plain(text: str) -> str:
    blocks = (block.strip() for block in re.split(r"\n\s*\n", text))
    return "".join(f"<p>{escape(block, quote=False)}</p>\n" for block in blocks if block)


@cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.add_render_rule("html_block", _text_of_block)
    parser.add_render_rule("html_inline", _nothing)
    return parser


def _text_of_block(_self: RendererHTML, tokens: Sequence[Token], at: int, _options: OptionsDict, _env: EnvType) -> str:
    text = re.sub(r"<!--.*?-->|<(script|style)\b.*?(</\1>|$)", " ", tokens[at].content, flags=re.S | re.I)
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())
    return f"<p>{escape(text, quote=False)}</p>\n" if text else ""


def _nothing(_self: RendererHTML, _tokens: Sequence[Token], _at: int, _options: OptionsDict, _env: EnvType) -> str:
    return ""


_LINK = re.compile(r'(<a\b[^>]*?)\s+href="(?!https?:|mailto:|#)[^"]*"')


def _without_relative_links(body: str) -> str:
    """Links into the source repository lead nowhere on this site; their text stays."""
    return _LINK.sub(r"\1", body)
