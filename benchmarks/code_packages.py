"""Packages that ship their sources, from npm, Debian and PyPI, each unpacked into a folder of its own.

    python benchmarks/code_packages.py FOLDER

lays out those that `code_packages.txt` names, and their list as FOLDER/list for `cpt-ray code-pairs repository_list=`.
What cannot be had is named and left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

LIST = Path(__file__).parent / "code_packages.txt"
COMMANDS = {
    "npm": ["npm", "pack", "-s"],
    "debian": ["apt-get", "download", "-q"],
    "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"],
}


def listed(text: str) -> list[tuple[str, str]]:
    """(registry, package) of each line; `#` begins a remark."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [(words[0], words[1]) for words in lines if words]


def unpack(packages: Iterable[tuple[str, str]], folder: Path) -> list[Path]:
    """The folders of those that could be had, below `folder`; of the JDK's sources `java.base/java`."""
    found = []
    for registry, name in packages:
        to = folder / "-".join(re.findall(r"[\w.+-]+", f"{registry} {name}"))
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([*COMMANDS[registry], name], cwd=scratch, capture_output=True, check=False)
            archive = next(Path(scratch).iterdir(), None)
            if archive is None:
                print(f"left out: {registry} {name} cannot be had here")
                continue
            if archive.suffix == ".deb":
                subprocess.run(["dpkg-deb", "-x", archive, to], check=True)
            else:
                with tarfile.open(archive) as opened:
                    opened.extractall(to, filter="data")
        for inner in to.rglob("src.zip"):
            if not inner.is_symlink():
                subprocess.run(["unzip", "-q", inner, "java.base/java/*", "-d", to / "java"], check=True)
        found.append(to)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    found = unpack(listed(LIST.read_text()), folder)
    (folder / "list").write_text("".join(f"{one}\n" for one in found))
