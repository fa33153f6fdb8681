"""A wheel is all of the product: it brings one name to an environment, and runs far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("cpt_ray", "pipelines", "conf", "pyproject.toml", "setup.py", "README.md", "LICENSE")
INSIDE = {"pipelines": "cpt_ray/pipelines", "conf": "cpt_ray/conf"}
"""Folders of the repository that are installed elsewhere."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, because building leaves folders in the tree."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    return next(out.glob("*.whl"))


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *words], check=True, cwd="/")


def test_everything_is_in_it_under_one_name(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"cpt_ray"}
    expected = {
        f"{INSIDE.get(folder, folder)}/{path.relative_to(ROOT / folder)}"
        for folder in ("cpt_ray", "pipelines", "conf")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected


def test_it_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Help and configuration of the installed copy, which reads its own conf/."""
    target = tmp_path / "site"
    _pip("install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def python(*words: str) -> str:
        command = [sys.executable, *words]
        return subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    where = "import cpt_ray.pipelines.config as config; print(config.CONF)"
    assert python("-c", where).strip() == str(target / "cpt_ray" / "conf")
    assert "demo" in python("-m", "cpt_ray.pipelines.cli", "--help")
    shown = yaml.safe_load(python("-m", "cpt_ray.pipelines.cli", "demo", "--print-config"))
    assert shown["queries"] == yaml.safe_load((ROOT / "conf" / "demo.yaml").read_text())["queries"]
    assert python("-m", "cpt_ray.pipelines.search", "--help").startswith("cpt-ray search")
    code = "from cpt_ray.pipelines.demo_report import _own_code; print(*_own_code(), sep='\\n')"
    named = set(python("-c", code).split())
    assert {"cpt_ray/ranking.py", "pipelines/train.py", "pipelines/options/train.py"} <= named
