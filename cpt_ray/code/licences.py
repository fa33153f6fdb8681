"""The licence of a file: what its header declares (SPDX), else what is known of its distribution or repository.

Where a project has no licence text, its manifest may declare one.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from email.parser import BytesHeaderParser
from typing import Any

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


def is_manifest(path: str) -> bool:
    """Whether a path at the top of a project is that of a manifest that may declare its licence."""
    return _manifest(path) is not None


def declared_licence(path: str, data: bytes) -> str | None:
    """The SPDX expression that a manifest declares; None where it declares none, or nothing that is one."""
    read = _manifest(path)
    try:
        found = read(data) if read is not None else None
        # Cargo's old way to write OR.
        return str(canonicalize_license_expression(found.replace("/", " OR "))) if isinstance(found, str) else None
    except (InvalidLicenseExpression, ValueError, RecursionError, AttributeError):
        return None


def _manifest(path: str) -> Callable[[bytes], Any] | None:
    return _core_metadata if _PYTHON.fullmatch(path) else _MANIFESTS.get(path)


def _npm(data: bytes) -> Any:
    about = json.loads(data)
    found = about.get("license") or about.get("licenses")
    found = [
        one.get("type") if isinstance(one, dict) else one for one in (found if isinstance(found, list) else [found])
    ]
    return " OR ".join(found) if found and all(isinstance(one, str) for one in found) else None


def _pyproject(data: bytes) -> Any:
    found = tomllib.loads(data.decode()).get("project", {}).get("license")
    return found.get("text") if isinstance(found, dict) else found


def _core_metadata(data: bytes) -> Any:
    about = BytesHeaderParser().parsebytes(data)
    return about.get("License-Expression") or about.get("License")


_PYTHON = re.compile(r"(?:[^/]+\.dist-info/METADATA|PKG-INFO)")
_MANIFESTS: dict[str, Callable[[bytes], Any]] = {
    "package.json": _npm,
    "composer.json": _npm,
    "pyproject.toml": _pyproject,
    "Cargo.toml": lambda data: tomllib.loads(data.decode()).get("package", {}).get("license"),
}
