"""Mining a git repository at a commit, on repositories made here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from identify.vendor.licenses import LICENSES

from cpt_ray.code import repositories
from cpt_ray.code.functions import mine_shard
from cpt_ray.code.options import MineOptions
from cpt_ray.code.readers.git import Repository
from cpt_ray.code.repositories import mine_listed_shard, mine_repository_shard
from cpt_ray.errors import UserError

OPTIONS = MineOptions()
CODE = 'def {name}(x):\n    """Parses {name} from the text."""\n    y = x\n    return y\n'


def git(folder: Path, *words: str) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "pkg" / "tests").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "pkg" / "a.py").write_text(CODE.format(name="dates"))
    (folder / "pkg" / "größe 日本\n.py").write_text(CODE.format(name="sizes"))
    (folder / "pkg" / "tests" / "b.py").write_text(CODE.format(name="tests"))
    (folder / "README.md").write_text("# read me\n")
    (folder / "link.py").symlink_to("pkg/a.py")
    (folder / "big.py").write_text("# " + "x" * 200_000 + "\n" + CODE.format(name="big"))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def test_a_commit_is_mined_without_a_checkout(repository: Path) -> None:
    """Rows carry the commit; a later change of the work tree does not show."""
    commit = git(repository, "rev-parse", "HEAD").strip()
    (repository / "pkg" / "a.py").write_text("changed after the commit")
    shard = {"repository": str(repository), "commit": "main", "group": "owner/name", "licence": "MIT"}
    table, ledger = mine_repository_shard(shard, OPTIONS)
    assert table["name"].to_pylist() == ["big", "dates", "sizes"]
    assert set(table["version"].to_pylist()) == {commit}
    assert set(table["group"].to_pylist()) == {"owner/name"}
    assert table["path"].to_pylist() == ["big.py", "pkg/a.py", "pkg/größe 日本\n.py"]
    assert ledger.to_dict()["files"] == {
        "read": 6,
        "kept": 3,
        "dropped": {"not_a_file": 1, "other_language": 1, "test": 1},
    }


def test_a_repository_gives_what_its_files_give(repository: Path) -> None:
    """The same files read from disk: the same rows but for the version."""
    files = [[str(repository / name), name] for name in ("big.py", "pkg/a.py", "pkg/größe 日本\n.py")]
    commit = git(repository, "rev-parse", "HEAD").strip()
    from_disk, _ = mine_shard({"group": "g", "version": commit, "licence": "", "files": files}, OPTIONS)
    from_git, _ = mine_repository_shard({"repository": str(repository), "commit": commit, "group": "g"}, OPTIONS)
    assert from_disk.equals(from_git)


def test_absent_blobs_are_dropped_by_name_and_the_rest_is_read(repository: Path) -> None:
    """A corrupt or partial repository: `git archive` would stop at the first absent object."""
    digest = git(repository, "rev-parse", "HEAD:big.py").strip()
    (repository / ".git" / "objects" / digest[:2] / digest[2:]).unlink()
    table, ledger = mine_repository_shard({"repository": str(repository), "commit": "HEAD", "group": "g"}, OPTIONS)
    assert table["name"].to_pylist() == ["dates", "sizes"]
    assert ledger.units["files"].dropped["missing_blob"] == 1
    with Repository(str(repository)) as opened:
        assert list(opened.blobs([digest])) == [None]


def test_a_partial_clone_is_read_without_fetching(repository: Path, tmp_path: Path) -> None:
    """A blobless clone whose origin still stands must not fetch behind our back, nor die of being forbidden to."""
    git(repository, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--bare", "--filter=blob:limit=1k", f"file://{repository}", "partial.git")
    partial = tmp_path / "partial.git"
    before = git(partial, "count-objects", "-v")
    table, ledger = mine_repository_shard({"repository": str(partial), "commit": "main", "group": "g"}, OPTIONS)
    assert table["name"].to_pylist() == ["dates", "sizes"]
    assert ledger.units["files"].dropped["missing_blob"] == 1
    assert git(partial, "count-objects", "-v") == before


def test_slices_together_are_the_whole(repository: Path) -> None:
    shard = {"repository": str(repository), "commit": "HEAD", "group": "g"}
    whole, ledger = mine_repository_shard(shard, OPTIONS)
    pieces = [mine_repository_shard({**shard, "slice": [i, 3]}, OPTIONS) for i in range(3)]
    joined = pa.concat_tables([table for table, _ in pieces]).sort_by(
        [("path", "ascending"), ("start_byte", "ascending")]
    )
    assert joined.combine_chunks().equals(whole.combine_chunks())
    assert sum((part for _, part in pieces[1:]), pieces[0][1]).to_dict() == ledger.to_dict()


@pytest.mark.parametrize("holder", ["git", "folder"])
def test_what_is_hostile_in_a_repository_is_counted_by_reason(tmp_path: Path, holder: str) -> None:
    """A line of 10 MB, nesting without end, a program named as Python, other encodings, links in a circle, a submodule."""
    folder = tmp_path / "hostile"
    (folder / "deep").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "good.py").write_text(CODE.format(name="good"))
    (folder / "line.py").write_bytes(b"x = '" + b"a" * 10_000_000 + b"'\n")
    (folder / "nested.py").write_bytes(b"f(" * 50_000 + b"\ndef f(x): pass\n")
    (folder / "program.py").write_bytes(b"\x7fELF\x02\x01\x01\0" + bytes(range(256)) * 20)
    (folder / "other.py").write_bytes("def f():\n    'Menü und mehr.'\n    return 1\n".encode("utf-16-le")[:-1])
    (folder / "to").symlink_to("fro")
    (folder / "fro").symlink_to("to")
    (folder / "deep" / "up").symlink_to("..")
    git(folder, "add", "-A")
    links = 3
    if holder == "git":
        git(folder, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
        git(folder, "commit", "-qm", "one")
        links += 1
    else:
        shutil.rmtree(folder / ".git")
    table, ledger = mine_repository_shard({"repository": str(folder), "group": "g", "licence": "MIT"}, OPTIONS)
    files = ledger.check(holder).to_dict()["files"]
    assert table["name"].to_pylist() == ["good"]
    nested = {"syntax_error", "too_slow"} & set(files["dropped"])
    assert files["dropped"] == {"too_large": 1, "not_utf8": 2, "not_a_file": links, **dict.fromkeys(nested, 1)}
    assert len(nested) == 1


def test_many_large_blobs_do_not_block_the_pipe(tmp_path: Path) -> None:
    """More questions than a pipe's buffer holds, with answers larger than it: both sides must keep moving."""
    folder = tmp_path / "many"
    folder.mkdir()
    git(folder, "init", "-q")
    for i in range(30):
        (folder / f"f{i}.py").write_bytes(bytes([65 + i % 26]) * 100_000)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "many")
    with Repository(str(folder)) as opened:
        digests = [entry.key for entry in opened.entries()] * 60
        assert sum(len(data or b"") for data in opened.blobs(digests)) == 30 * 60 * 100_000


@pytest.mark.parametrize("commit", ["no-such-branch", "--help", "0" * 40])
def test_an_unknown_commit_is_the_users_error(repository: Path, commit: str) -> None:
    with pytest.raises(UserError, match="git cannot read this"):
        mine_repository_shard({"repository": str(repository), "commit": commit, "group": "g"}, OPTIONS)


def test_a_folder_has_no_revision_and_a_damaged_repository_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only a git repository"):
        mine_repository_shard({"repository": str(tmp_path), "commit": "v1", "group": "g"}, OPTIONS)
    (tmp_path / ".git").mkdir()
    with pytest.raises(UserError, match="git cannot read this"):
        mine_repository_shard({"repository": str(tmp_path), "commit": "HEAD", "group": "g"}, OPTIONS)


def test_a_repository_that_cannot_be_read_costs_itself_alone(repository: Path, tmp_path: Path) -> None:
    good, ledger = mine_listed_shard({"repository": str(repository), "commit": "HEAD", "group": "g"}, OPTIONS)
    none, bad = mine_listed_shard({"repository": str(tmp_path / "gone"), "commit": "HEAD", "group": "h"}, OPTIONS)
    assert (good.num_rows, none.num_rows) == (3, 0)
    total = (ledger + bad).check("both").to_dict()
    assert total["repositories"] == {"read": 2, "kept": 1, "dropped": {"unreadable": 1}}
    assert total["files"] == ledger.to_dict()["files"]


@pytest.mark.parametrize("holder", ["git", "folder"])
def test_one_that_vanishes_in_the_middle_costs_itself_alone(
    repository: Path, tmp_path: Path, holder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its files were listed, and after the first of them was read; what is read from then on is none of its rows."""
    path = repository if holder == "git" else repository / "pkg"
    shard = {"repository": str(path), "commit": "HEAD" if holder == "git" else "", "group": "g", "licence": "MIT"}
    whole, _ = mine_listed_shard(shard, OPTIONS)
    for moment in ("listed", "read"):
        copy = tmp_path / moment
        shutil.copytree(path, copy, symlinks=True)
        with monkeypatch.context() as patched:

            def sources(*words: Any, copy: Path = copy, moment: str = moment, real: Any = repositories._sources) -> Any:
                found = real(*words)
                if moment == "read":
                    yield next(one for one in found if one.data)
                shutil.rmtree(copy)
                yield from found

            patched.setattr(repositories, "_sources", sources)
            table, ledger = mine_listed_shard({**shard, "repository": str(copy)}, OPTIONS)
        after, _ = mine_listed_shard(shard, OPTIONS)
        counts = ledger.check(moment).to_dict()
        assert after.equals(whole)
        assert table.num_rows <= whole.num_rows  # git may have sent all of it by then
        if moment == "listed":
            lost = counts["repositories" if holder == "git" else "files"]["dropped"]
            assert (table.num_rows, lost["unreadable"]) == (0, 1 if holder == "git" else 2)


def test_a_folder_inside_a_work_tree_is_itself_and_not_the_repository_above(repository: Path) -> None:
    """git would find the repository above, and all of it would be mined under the folder's name."""
    table, _ = mine_repository_shard({"repository": str(repository / "pkg"), "group": "g"}, OPTIONS)
    assert table["path"].to_pylist() == ["a.py", "größe 日本\n.py"]


def test_git_reads_its_configuration_from_where_the_user_put_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`safe.directory` given by the environment of a container counts, whoever owns the repository."""
    for name, value in (("COUNT", "1"), ("KEY_0", "core.abbrev"), ("VALUE_0", "7")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    with Repository(str(repository)) as opened:
        assert opened._ask("config", "core.abbrev").strip() == b"7"


def test_the_licence_is_read_from_the_licence_files(repository: Path) -> None:
    """By likeness to the texts known, another name and year in it; several hold together, an unknown one hides all."""
    mit = next(text for name, text in LICENSES if name == "MIT")
    isc = next(text for name, text in LICENSES if name == "ISC")
    expected = []
    for name, text in (("LICENSE", mit), ("LICENSE-ISC", isc), ("COPYING", "All of this is mine. Ask me first.")):
        (repository / name).write_text("Copyright (c) 2031 The People of Elsewhere\n" + text)
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", name)
        table, _ = mine_repository_shard({"repository": str(repository), "commit": "HEAD", "group": "g"}, OPTIONS)
        expected.append(set(table["licence"].to_pylist()))
    assert expected == [{"MIT"}, {"ISC AND MIT"}, {"unknown"}]
    given = {"repository": str(repository), "commit": "HEAD", "group": "g", "licence": "Zlib"}
    assert set(mine_repository_shard(given, OPTIONS)[0]["licence"].to_pylist()) == {"Zlib"}


@pytest.mark.parametrize(
    ("path", "text", "licence"),
    [
        ("package.json", '{"license": "MIT"}', "MIT"),
        ("package.json", '{"license": {"type": "BSD-3-Clause", "url": "x"}}', "BSD-3-Clause"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}', "MIT OR Apache-2.0"),
        ("package.json", '{"license": "SEE LICENSE IN x"}', "unknown"),
        ("package.json", "[1]", "unknown"),
        ("composer.json", '{"license": ["lgpl-2.1-only", "GPL-3.0-or-later"]}', "LGPL-2.1-only OR GPL-3.0-or-later"),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("Cargo.toml", "[package\n", "unknown"),
        ("pyproject.toml", '[project]\nlicense = {text = "MIT"}\n', "MIT"),
        ("PKG-INFO", "Name: a\nLicense-Expression: MIT\n\nText\n", "MIT"),
        ("a-1.dist-info/METADATA", "Name: a\nLicense: Our own terms\n", "unknown"),
        ("sub/package.json", '{"license": "MIT"}', "unknown"),
    ],
)
def test_without_a_licence_text_a_manifest_may_declare_one(tmp_path: Path, path: str, text: str, licence: str) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    (tmp_path / "a.py").write_text(
        'def f(x):\n    """Adds one to the number."""\n    y = x + 1\n    z = y\n    return z\n'
    )
    table, _ = mine_repository_shard({"repository": str(tmp_path), "group": "g"}, OPTIONS)
    assert table["licence"].to_pylist() == [licence]
    (tmp_path / "LICENSE").write_text("All of it is ours.")
    assert mine_repository_shard({"repository": str(tmp_path), "group": "g"}, OPTIONS)[0]["licence"].to_pylist() == [
        "unknown"
    ]
