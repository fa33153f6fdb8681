"""The licence of one file: what its header declares (SPDX), else what is known of its distribution or repository.

A text that merely resembles a licence is never guessed at: the value is then "unknown".
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"
HEADER_BYTES = 4_096
"""The specification wants the tag near the top; a tag further down belongs to a quoted text."""

_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+\-() \t]+)")
_EXPRESSION = re.compile(r"\(*[A-Za-z0-9.\-]+\+?\)*(?: (?:AND|OR|WITH) \(*[A-Za-z0-9.\-]+\+?\)*)*")


def header_licence(source: bytes) -> str | None:
    """The SPDX expression in the header of a file (SPDX 2.3, annex E), None where there is none or it is malformed."""
    found = _TAG.search(source, 0, HEADER_BYTES)
    if found is None:
        return None
    expression = _EXPRESSION.match(" ".join(found.group(1).decode("ascii").split()))
    if expression is None or expression.group().count("(") != expression.group().count(")"):
        return None
    return expression.group()


def file_licence(source: bytes, default: str | None) -> str:
    """The header's licence before the distribution's (`default`): a vendored file keeps its own."""
    return header_licence(source) or default or UNKNOWN
