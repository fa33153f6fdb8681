"""Pairs from more packages than those installed here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError
from pipelines import code_pairs, config

CODE = '''
def shout(text):
    """Writes a text in capitals."""
    loud = text.upper()
    return loud + "!"
'''


def install(folder: Path, name: str) -> str:
    """A package as pip leaves it in a folder."""
    record = folder / f"{name}-1.0.dist-info"
    record.mkdir(parents=True)
    (folder / f"{name}.py").write_text(CODE)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (record / "RECORD").write_text(f"{name}.py,,\n")
    return str(folder)


def test_packages_of_other_folders_are_mined_beside_those_installed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, and where both have a package, it is the one installed here."""
    here, there = install(tmp_path / "here", "loud"), install(tmp_path / "there", "loud")
    install(Path(there), "louder")
    options = code_pairs.PipelineOptions(site_packages=(there,))
    with monkeypatch.context() as patched:
        patched.setattr("sys.path", [here])
        found = {one.name: one for one in code_pairs.packages(options.site_packages)}
    assert set(found) == {"python", "loud", "louder"}
    assert (found["loud"].root, found["louder"].root) == (here, there)
    (shard,) = code_pairs.installed_shards([found["louder"]])
    table, ledger = code_pairs.mine_installed_shard(shard, options.mine)
    assert table["group"].to_pylist() == ["louder"]
    ledger.check("test")


def test_a_folder_without_packages_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        code_pairs.packages([str(tmp_path)])
    assert str(tmp_path) in caught.value.where
    assert caught.value.fix


def test_repositories_and_packages_are_two_runs() -> None:
    """Neither is left out without a word."""
    with pytest.raises(UserError, match="repositories or site_packages"):
        config.load("code_pairs", code_pairs.PipelineOptions, ["site_packages=[there]", "repositories=[{path: here}]"])


def test_a_long_list_has_groups_at_once() -> None:
    """Each name is counted once: to count it again for every repository would be 10^10 comparisons."""
    options = [code_pairs.RepositoryOptions(path=f"/there/{number}/repo") for number in range(100_000)]
    assert code_pairs._groups(options)[-1] == "99999/repo"


def test_lists_are_utf8_with_or_without_its_mark(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeff/there/caf\u00e9\n".encode())
    assert code_pairs.listed(str(tmp_path / "list.txt"))[0].path == "/there/caf\u00e9"
    (tmp_path / "list.txt").write_bytes("/there/caf\u00e9\n".encode("latin-1"))
    for read in (code_pairs.listed, lambda name: code_pairs._evaluation([name])):
        with pytest.raises(UserError, match="no UTF-8") as caught:
            read(str(tmp_path / "list.txt"))
        assert caught.value.where == str(tmp_path / "list.txt")


def test_groups_tell_repositories_apart(tmp_path: Path) -> None:
    """Splits keep groups apart, so two repositories must not be one; `.git` is no name."""
    paths = [tmp_path / name for name in ("x/click/.git", "a/repo", "b/repo", "gin.git")]
    options = [code_pairs.RepositoryOptions(path=str(path)) for path in paths]
    assert code_pairs._groups(options) == ["click", "a/repo", "b/repo", "gin"]
    with pytest.raises(UserError, match="one group"):
        code_pairs._groups([options[0], options[0]])


def test_one_bad_repository_of_many_is_said_and_the_others_are_mined(tmp_path: Path) -> None:
    for name in ("good", "empty"):
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True)
    (tmp_path / "good" / "a.py").write_text("x = 1\n")
    for words in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path / "good", check=True)
    paths = [*(str(tmp_path / name) for name in ("good", "empty", "gone")), "https://[h/o/one.git"]
    shards = code_pairs.repository_shards([code_pairs.RepositoryOptions(path=path) for path in paths], MineOptions())
    assert ["problem" in shard for shard in shards] == [False, True, True, True]
    with pytest.raises(UserError, match="none of the 3 repositories"):
        code_pairs.repository_shards([code_pairs.RepositoryOptions(path=path) for path in paths[1:]], MineOptions())
