"""Docstrings: read without importing, rendered without failing."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from cpt_ray.installed import docstrings
from cpt_ray.installed.docstrings import NotPython, entries, html, may_have_docstrings

MODULE = '''"""The module."""
import os
os._exit(3)  # would end the test run if anything were imported

class Thing:
    """A thing."""
    def act(self):
        """Acts."""
        def inner():
            """Hidden inside."""

async def later():
    """Comes later."""

def silent():
    pass
'''


def test_entries_in_source_order_without_importing() -> None:
    """Module, classes, their methods and functions, by qualified name; nothing from inside functions, nothing run."""
    found = [(e.kind, e.name, e.docstring) for e in entries(MODULE.encode(), "m")]
    assert found == [
        ("module", "m", "The module."),
        ("class", "Thing", "A thing."),
        ("function", "Thing.act", "Acts."),
        ("function", "later", "Comes later."),
    ]


@pytest.mark.parametrize("source", [b"def (", b"\x00\x01", b"\xff\xfe broken", b"x = " + b"(" * 5000])
def test_what_is_no_python_says_so(source: bytes) -> None:
    """Any bytes may stand in a .py file."""
    with pytest.raises(NotPython):
        entries(source, "m")


def test_prefilter_never_loses_a_documented_module() -> None:
    """The cheap check may say yes too often, never no wrongly, for triple-quoted docstrings."""
    assert may_have_docstrings(MODULE.encode(), 30)
    assert not may_have_docstrings(b"x = 1\n" * 1000, 1)


def test_blocks() -> None:
    """Paragraphs, sections in both styles, bullets, definitions, literal blocks and roles become elements."""
    text = """Summary of :class:`~a.b.Thing` and ``code``.

    Parameters
    ----------
    x : int
        The number.

    Args:
        y: the other <number>

    - one
      goes on
    - two

    Example::

        a < b

    >>> 1 + 1
    2
    """
    shown = html(inspect.cleandoc(text), 3)
    assert "<p>Summary of <code>a.b.Thing</code> and <code>code</code>.</p>" in shown
    assert "<h3>Parameters</h3>" in shown
    assert "<dt>x : int</dt>" in shown
    assert "<h3>Args</h3>" in shown
    assert "y: the other &lt;number&gt;" in shown
    assert "<li>one goes on</li>" in shown
    assert "<pre><code>a &lt; b</code></pre>" in shown
    assert "&gt;&gt;&gt; 1 + 1\n2</code></pre>" in shown


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["", "    ", "-----", "Args:", "- item", ">>> f()", "```", ".. note:: x", ":param a: b", "x::", "  1. y"]
        ),
        st.text(alphabet=st.characters(codec="utf-8"), max_size=12),
    ),
    max_size=25,
)


@given(LINES)
def test_every_word_survives_and_markup_is_balanced(lines: list[str]) -> None:
    """Whatever the docstring: rendering ends, nothing of it becomes markup, and letters are not lost."""
    text = "\n".join(lines)
    shown = html(text, 3)
    tree = HTMLTree.parse(f"<html><body>{shown}</body></html>")
    assert tree.body is not None
    allowed = {"p", "pre", "code", "ul", "li", "dl", "dt", "dd", "strong", "em", *(f"h{n}" for n in range(1, 7))}
    assert {tag.lower() for tag in re.findall(r"</?([a-zA-Z][\w-]*)", shown)} <= allowed
    assert shown.count("<p>") == shown.count("</p>")
    assert shown.count("<dd>") == shown.count("</dd>")


def test_inline_escapes() -> None:
    """Text is text: no element comes out of it."""
    assert docstrings.inline('<script>alert("x")</script> **bold**') == (
        '&lt;script&gt;alert("x")&lt;/script&gt; <strong>bold</strong>'
    )
