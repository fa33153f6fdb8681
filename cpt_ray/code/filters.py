"""Why a file or a function is left out: each rule is a name in the ledger.

The rules follow CodeSearchNet (tests, dunder and trivial functions) and The Vault (generated, foreign, symbolic
docstrings); all of them look at one file alone, so that no order or worker count shows.
"""

from __future__ import annotations

import re

TEST_FOLDERS = frozenset({"test", "tests", "_test", "_tests", "__tests__", "unittests", "testsuite", "test_suite"})
_TEST_FILE = re.compile(r"(?:test_.*|.*_tests?|tests?|conftest|.*[.-](?:test|spec)|.*Tests?)\.\w+")
_TEST_FUNCTION = re.compile(r"(?:test|tests)(?:_|$|[A-Z0-9])|(?:setUp|tearDown)")
_GENERATED = re.compile(
    rb"(?i)(?:#|//|\*|\"\"\")[^\n]*?(?:\b(?:auto-?|machine |automatically )generated\b|@generated\b"
    rb"|\bgenerated (?:by|from|with|using|automatically)\b|\bdo not (?:edit|modify|change)\b)"
)
GENERATED_HEADER_BYTES = 1_500

_WORD = re.compile(r"[^\W\d_]+")
_REFERENCE = re.compile(
    r"(?i)\W*(?:(?:please )?(?:see|same as|refer to|cf|alias (?:for|of|to)|inherit(?:ed|s|doc)?|overrid(?:es?|den)"
    r"|deprecated|docstring (?:inherited|is)|todo|fixme|xxx|not implemented|for internal use|internal use only|meta)\b)"
)
# The commonest words of English prose; a longer text of another language holds hardly any of them.
_ENGLISH = frozenset(
    (
        "the of to a an in is and for this that with be are as if by it on or from not at which when returns return"
        + " given will used all into can set get value any has was use does only should list name number whether no"
    ).split()
)
PROSE_WORDS = 10
"""Shorter texts are too short to tell their language by stop words."""


def is_test_path(path: str) -> bool:
    """Whether a relative path (`/` between its parts) lies in a folder of tests or is named as a test."""
    *folders, name = path.split("/")
    return any(folder in TEST_FOLDERS for folder in folders) or _TEST_FILE.fullmatch(name) is not None


def is_test_name(name: str) -> bool:
    return _TEST_FUNCTION.match(name) is not None


def is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and len(name) > 4


def is_generated(source: bytes) -> bool:
    """Whether a comment in the header says that a program wrote the file."""
    return _GENERATED.search(source, 0, GENERATED_HEADER_BYTES) is not None


def prose_reason(docstring: str, summary: str, *, min_words: int) -> str | None:
    """Why this docstring describes nothing that one could search for, or None if it does.

    `no_summary` (it begins with a list of parameters or an example), `docstring_too_short`, `docstring_refers` (it only
    points elsewhere), `not_letters` (symbols, tables, ASCII art), `not_english`.
    """
    if not summary:
        return "no_summary"
    words = _WORD.findall(summary)
    if len(words) < min_words:
        return "docstring_too_short"
    if _REFERENCE.match(summary):
        return "docstring_refers"
    visible = len(summary) - summary.count(" ")
    if sum(map(len, words)) < 0.6 * visible:
        return "not_letters"
    if not _is_english(docstring, words):
        return "not_english"
    return None


def _is_english(docstring: str, summary_words: list[str]) -> bool:
    if not docstring.isascii():
        letters = [c for c in docstring if c.isalpha()]
        if sum(not c.isascii() for c in letters) > 0.2 * len(letters):
            return False
    if len(summary_words) < PROSE_WORDS:
        return True
    return any(word.lower() in _ENGLISH for word in summary_words)
