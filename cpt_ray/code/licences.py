"""The licence of a file: what its header declares (SPDX), else what is known of its distribution or repository."""

from __future__ import annotations

import re

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from cpt_ray.licences import UNKNOWN

HEADER_BYTES = 4_096
"""The specification wants the tag near the top; a tag further down belongs to a quoted text."""

_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([^\r\n]*)")
_ENDS = re.compile(r"[\s.,;\"'`]*(?:\*/|-->|\*\)|#\}|%>)?[\s.,;\"'`]*$")
_FILE = re.compile(
    r"(?i)(?:(?:[^/]+\.dist-info/(?:licen[sc]es/)?|META-INF/))?"
    r"(?:(?:un)?licen[sc]e(?:[-_.][\w.-]+)?|copying(?:[-_.][\w.-]+)?|[\w-]+[-_.]licen[sc]e(?:\.(?:txt|md|rst))?)"
)


def header_licence(source: bytes) -> str | None:
    """The SPDX expression in the header of a file (SPDX 2.3, annex E; 3.0, annex B for lower-case operators).

    Several tags hold together (`AND`); a tag that is no expression makes it UNKNOWN; None where there is no tag.
    """
    found: list[str] = []
    for tag in _TAG.finditer(source, 0, HEADER_BYTES):
        text = _ENDS.sub("", tag[1].decode("utf-8", "replace"))
        if not text:
            continue
        try:
            expression = str(canonicalize_license_expression(text))
        except InvalidLicenseExpression:
            return UNKNOWN
        if expression not in found:
            found.append(expression)
    if len(found) > 1:
        return " AND ".join(f"({one})" if " OR " in one and one[0] != "(" else one for one in found)
    return found[0] if found else None


def file_licence(source: bytes, default: str | None) -> str:
    """The header's licence before the distribution's (`default`): a vendored file keeps its own."""
    return header_licence(source) or default or UNKNOWN


def is_licence_file(path: str) -> bool:
    """Whether a path at the top of a repository is named as its licence, or where a wheel or a jar has it."""
    return _FILE.fullmatch(path) is not None
