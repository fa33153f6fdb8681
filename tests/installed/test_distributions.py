"""The inventory of installed distributions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES

from cpt_ray.installed.distributions import Distribution, description, distributions, fingerprint
from cpt_ray.installed.licences import spdx
from cpt_ray.licences import UNKNOWN

TEXTS = dict(LICENSES)
BSD3 = TEXTS["BSD-3-Clause"].replace("{{ year }}, {{ organization }}", "2031, somebody")


def install(
    site: Path, name: str, files: dict[str, str], *, version: str = "1.0", headers: str = "", **extra: str
) -> None:
    """Lay a distribution out as an installer does."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{headers}\nThe description.\n"
    )
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    for path, text in extra.items():
        (info / path.replace("__", ".")).write_text(text)
    listed = [*files, *(f"{info.name}/{path.replace('__', '.')}" for path in extra), f"{info.name}/METADATA"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


def test_inventory_lists_what_is_on_disk(tmp_path: Path) -> None:
    """Files come from RECORD, only .py, only those that exist, each with its size and path below the root."""
    install(
        tmp_path,
        "Some.Thing",
        {"thing/__init__.py": "a = 1\n", "thing/gone.py": "", "thing/data.txt": ""},
        headers="License-Expression: MIT\nRequires-Dist: Other_One>=1; python_version > '3'\nRequires-Dist: more; extra == 'x'\n",
    )
    os.remove(tmp_path / "thing/gone.py")
    (found,) = distributions([str(tmp_path)], standard_library=False)
    assert (found.name, found.version, found.licence) == ("some-thing", "1.0", "MIT")
    assert found.requires == ("other-one",)
    assert [tuple(file) for file in found.files] == [("thing/__init__.py", 6)]
    assert Path(found.absolute(found.files[0])).read_text() == "a = 1\n"
    assert description(found) == ("The description.\n", "text/x-rst")
    assert Distribution.from_dict(found.to_dict()) == found


def test_a_file_belongs_to_one_distribution(tmp_path: Path) -> None:
    """Two distributions that list one file: the first by name has it, whatever the order on disk."""
    install(tmp_path, "zeta", {"shared/__init__.py": "", "zeta.py": ""})
    install(tmp_path, "alpha", {"shared/__init__.py": "", "alpha.py": ""})
    alpha, zeta = distributions([str(tmp_path)], standard_library=False)
    assert [file.path for file in alpha.files] == ["alpha.py", "shared/__init__.py"]
    assert [file.path for file in zeta.files] == ["zeta.py"]


def test_own_and_editable_installs_are_left_out(tmp_path: Path) -> None:
    """What is being worked on is no installed package."""
    install(tmp_path, "cpt_ray", {"cpt_ray/__init__.py": ""})
    install(
        tmp_path, "edited", {"edited.py": ""}, direct_url__json='{"url": "file:///x", "dir_info": {"editable": true}}'
    )
    install(tmp_path, "kept", {"kept.py": ""}, direct_url__json='{"url": "file:///x", "dir_info": {}}')
    assert [d.name for d in distributions([str(tmp_path)], standard_library=False)] == ["kept"]


def test_fingerprint_follows_names_and_versions(tmp_path: Path) -> None:
    """Equal sets have equal fingerprints in any order of folders; another version changes it."""
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    install(one, "a", {})
    install(one, "b", {})
    install(two, "b", {})
    install(two, "a", {})
    install(three, "a", {}, version="1.1")
    install(three, "b", {})
    assert fingerprint(path=[str(one)]) == fingerprint(path=[str(two)]) != fingerprint(path=[str(three)])


def test_fingerprint_does_not_depend_on_what_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that puts a folder of its own on sys.path, as Ray does, has installed nothing."""
    site, inside = tmp_path / "site-packages", tmp_path / "site-packages" / "big" / "thirdparty"
    install(site, "big", {})
    install(inside, "vendored", {})
    monkeypatch.setattr("sys.path", [str(site)])
    before = fingerprint()
    monkeypatch.setattr("sys.path", [str(inside), str(site)])
    assert fingerprint() == before == fingerprint(path=[str(site)])


def test_fingerprint_does_not_depend_on_hash_seed() -> None:
    """The fingerprint is part of artifacts' identity, so every process must agree on it."""
    code = "from cpt_ray.installed import fingerprint; print(fingerprint())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{fingerprint()}\n".encode()}
    assert fingerprint() == fingerprint(distributions())


def test_this_environment() -> None:
    """The real environment: no file twice, the standard library without its tests, nothing of ours."""
    found = distributions()
    paths = [d.absolute(file) for d in found for file in d.files]
    assert len(paths) == len(set(paths)) > 1000
    assert all(os.path.isfile(path) for path in paths[::50])
    (python,) = [d for d in found if d.name == "python"]
    names = {file.path for file in python.files}
    assert {"json/decoder.py", "asyncio/tasks.py"} <= names
    assert not any(path.startswith(("test/", "site-packages/")) for path in names)
    assert "cpt-ray" not in {d.name for d in found}


@pytest.mark.parametrize(
    ("expression", "classifiers", "field", "texts", "expected"),
    [
        ("Apache-2.0 OR MIT", ["License :: OSI Approved :: BSD License"], "MIT", [], "Apache-2.0 OR MIT"),
        (None, ["License :: OSI Approved :: MIT License", "License :: OSI Approved"], "BSD", [], "MIT"),
        (None, ["License :: OSI Approved :: BSD License"], "", [], UNKNOWN),
        (None, ["License :: OSI Approved :: BSD License"], "", [BSD3], "BSD-3-Clause"),
        (None, ["License :: OSI Approved :: BSD License"], "3-Clause BSD License", [], "BSD-3-Clause"),
        (None, [], "The MIT License", [], "MIT"),
        (None, [], "Apache License, Version 2.0", [], "Apache-2.0"),
        (None, [], "Apache Software License 2.0", [], "Apache-2.0"),
        (None, ["License :: Public Domain", "License :: OSI Approved :: MIT License"], None, [], UNKNOWN),
        (None, [], "ask the author", [], UNKNOWN),
        (None, [], None, [BSD3, "something else altogether"], UNKNOWN),
        ("", [], None, [], UNKNOWN),
    ],
)
def test_licence(
    expression: str | None, classifiers: list[str], field: str | None, texts: list[str], expected: str
) -> None:
    """The most exact source decides; what the metadata leaves open stays unknown."""
    assert spdx(expression, classifiers, field, texts) == expected


def test_licence_texts() -> None:
    """By the measure that repositories are read with: a text that resembles one or holds bundled parts too is unknown, and
    several texts hold together."""
    assert spdx(None, [], None, [TEXTS["BSD-2-Clause"]]) == "BSD-2-Clause"
    assert spdx(None, [], None, [BSD3]) == "BSD-3-Clause"
    assert spdx(None, [], None, [BSD3, TEXTS["Apache-2.0"]]) == "Apache-2.0 AND BSD-3-Clause"
    assert spdx(None, [], TEXTS["MIT"]) == "MIT"
    assert spdx(None, [], None, ["Redistribution and use in source and binary forms ..."]) == UNKNOWN
    assert spdx(None, [], None, [TEXTS["MIT"] + "\n\nParts are under\n" + TEXTS["Zlib"]]) == UNKNOWN


@pytest.mark.parametrize("row", ["\n", "* \n", "(c"])
def test_rows_of_signs_in_a_licence_are_read_once(row: str) -> None:
    """So many of them that the square of their number would be minutes to hours."""
    assert spdx(None, [], None, [row * 300_000 + "\n" + TEXTS["MIT"].replace("\n", "\r\n")]) in ("MIT", UNKNOWN)
