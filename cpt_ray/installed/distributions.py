"""The packages installed in this environment: real input that every machine has.

An inventory of the installed distributions (importlib.metadata) and of the standard library, which appears as a
distribution called "python". Nothing is imported; a distribution's files come from its RECORD.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

import xxhash
from packaging.requirements import InvalidRequirement, Requirement

from cpt_ray.installed.licences import spdx
from cpt_ray.licences import UNKNOWN
from cpt_ray.machine import name_of

PYTHON = "python"
OURSELVES = "cpt-ray"

# The standard library's own tests are no library code; site-packages lie below the library on some systems.
_NOT_LIBRARY = ("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__")


class SourceFile(NamedTuple):
    """One .py file: `path` relative to the distribution's root, with forward slashes; `size` in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Distribution:
    """An installed distribution. `name` is normalised (PEP 503); `root` is the folder its files are relative to."""

    name: str
    version: str
    licence: str
    summary: str
    requires: tuple[str, ...]
    root: str
    files: tuple[SourceFile, ...]

    def absolute(self, file: SourceFile) -> str:
        return os.path.join(self.root, *file.path.split("/"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, so that a distribution can be a shard."""
        return asdict(self) | {"files": [list(file) for file in self.files], "requires": list(self.requires)}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Distribution:
        files = tuple(SourceFile(path, size) for path, size in value["files"])
        return Distribution(**{**value, "files": files, "requires": tuple(value["requires"])})


def normalise(name: str) -> str:
    """The normalised project name of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(path: Sequence[str] | None = None, *, standard_library: bool = True) -> list[Distribution]:
    """Every installed distribution with the .py files that exist on disk, sorted by name.

    `path` is searched instead of sys.path when given. cpt-ray itself and editable installs are left out. A file listed
    by two distributions belongs to the one whose name sorts first. About 1 s for 200 distributions, 21,000 files.
    """
    claimed: set[str] = set()
    found = [_python(claimed)] if standard_library else []
    for name, installed in _installed(path):
        found.append(_distribution(name, installed, claimed))
    return sorted(found, key=lambda distribution: distribution.name)


def fingerprint(found: Iterable[Distribution] | None = None, *, path: Sequence[str] | None = None) -> str:
    """32 hex digits that change when a distribution is added, removed or gets another version.

    Of the distributions `found`; without them of all that are installed (on `path`), whose files are not looked at, so
    that it takes well under 1 s. The two are equal where `found` is everything.
    """
    if found is not None:
        versions = [f"{one.name}=={one.version}" for one in found]
    else:
        versions = [f"{name}=={installed.version}" for name, installed in _installed(path)]
        versions.append(f"{PYTHON}=={platform.python_version()}")
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(versions)).encode())


def description(distribution: Distribution) -> tuple[str, str]:
    """(text, content type) of the long description in METADATA, ("", "text/plain") where there is none."""
    if distribution.name == PYTHON:
        return "", "text/plain"
    for installed in metadata.distributions(name=distribution.name, path=[distribution.root]):
        if normalise(name_of(installed) or "") == distribution.name:
            message = _metadata(installed)
            body = message.get_payload()
            text = message.get("Description") or (body if isinstance(body, str) else "")
            return text, (message.get("Description-Content-Type") or "text/x-rst").split(";")[0].strip().lower()
    return "", "text/plain"


def _installed(path: Sequence[str] | None) -> list[tuple[str, metadata.Distribution]]:
    """(normalised name, distribution), sorted; the first on the path wins, as it does for import."""
    search = metadata.distributions(path=list(path) if path is not None else _own_folders())
    first: dict[str, metadata.Distribution] = {}
    for installed in search:
        if name := name_of(installed):
            first.setdefault(normalise(name), installed)
    return sorted((name, d) for name, d in first.items() if name != OURSELVES and not _editable(d))


def _own_folders() -> list[str]:
    """sys.path without what lies inside an installed package: Ray, once imported, adds its `ray/thirdparty_files`, and what
    is installed must not depend on what was imported."""
    sites = {"site-packages", "dist-packages"}
    return [folder for folder in sys.path if not sites & {parent.name for parent in Path(folder).parents}]


def _metadata(installed: metadata.Distribution) -> Message:
    # An email message in every Python 3; the declared protocol leaves most of it out.
    return cast(Message, installed.metadata)


def _editable(installed: metadata.Distribution) -> bool:
    direct = installed.read_text("direct_url.json")
    return bool(direct and json.loads(direct).get("dir_info", {}).get("editable"))


def _distribution(name: str, installed: metadata.Distribution, claimed: set[str]) -> Distribution:
    message = _metadata(installed)
    listed = installed.files or []
    # The parent of a .dist-info folder; RECORD's paths are relative to it.
    root = os.path.abspath(str(installed.locate_file("")))
    files = []
    for path in sorted({entry.as_posix() for entry in listed if entry.suffix == ".py"}):
        if path.startswith(("../", "/")) or "__pycache__/" in path:
            continue
        full = os.path.join(root, path)
        try:
            size = os.stat(full).st_size
        except OSError:
            continue
        if full not in claimed:
            claimed.add(full)
            files.append(SourceFile(path, size))
    classifiers = message.get_all("Classifier") or []
    licence = spdx(message.get("License-Expression"), classifiers, message.get("License"))
    if licence == UNKNOWN:
        texts = [installed.read_text(entry.as_posix().split("/", 1)[1]) for entry in listed if _is_licence(entry)]
        licence = spdx(None, classifiers, message.get("License"), [text for text in texts if text])
    return Distribution(
        name=name,
        version=installed.version,
        licence=licence,
        summary=(message.get("Summary") or "").strip(),
        requires=tuple(_requires(installed.requires or [])),
        root=root,
        files=tuple(files),
    )


def _is_licence(entry: metadata.PackagePath) -> bool:
    in_metadata = ".dist-info" in entry.parts[0] and len(entry.parts) > 1
    return in_metadata and re.fullmatch(r"(licen[cs]e|copying)(\.\w+)?", entry.name.lower()) is not None


def _requires(specifications: Sequence[str]) -> list[str]:
    """Names of what is required here without extras, sorted."""
    names = set()
    for specification in specifications:
        try:
            requirement = Requirement(specification)
        except InvalidRequirement:
            continue  # old metadata may hold anything; a requirement we cannot read links nowhere
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.add(normalise(requirement.name))
    return sorted(names)


def _python(claimed: set[str]) -> Distribution:
    root = os.path.realpath(sysconfig.get_path("stdlib"))
    files = sorted(_library_files(root, ""))
    claimed.update(os.path.join(root, file.path) for file in files)
    return Distribution(
        name=PYTHON,
        version=platform.python_version(),
        licence="PSF-2.0",
        summary="The standard library of the Python programming language.",
        requires=(),
        root=root,
        files=tuple(files),
    )


def _library_files(root: str, below: str) -> Iterator[SourceFile]:
    for entry in os.scandir(os.path.join(root, below)):
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_LIBRARY and not entry.name.startswith("config-"):
                yield from _library_files(root, path)
        elif entry.name.endswith(".py") and entry.is_file():
            yield SourceFile(path, entry.stat().st_size)
