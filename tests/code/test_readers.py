"""Whatever holds the files gives the same rows; a hostile archive costs itself alone, counted by reason."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from identify.vendor.licenses import LICENSES

from cpt_ray.code import tree
from cpt_ray.code.options import MineOptions
from cpt_ray.code.readers import parquet
from cpt_ray.code.repositories import mine_listed_shard, mine_repository_shard, opened, shards_of
from cpt_ray.errors import UserError

OPTIONS = MineOptions(languages=("python", "go"))
CODE = 'def {name}(x):\n    """Parses {name} from the größe."""\n    y = x\n    return y\n'
FILES = {
    "LICENSE": next(text for name, text in LICENSES if name == "MIT").encode(),
    "README.md": b"# read me\n",
    "pkg/a.py": CODE.format(name="dates").encode(),
    "pkg/größe 日本.py": CODE.format(name="sizes").encode(),
    "pkg/tests/b.py": CODE.format(name="tests").encode(),
    "cmd/main.go": b"package main\n\n// Add gives the sum of both.\nfunc Add(a, b int) int {\n\treturn a + b\n}\n",
    "big.py": b"# " + b"x" * 1_100_000 + b"\n" + CODE.format(name="big").encode(),
}


def folder(at: Path) -> Path:
    for name, data in FILES.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(data)
    return at


def git(at: Path) -> Path:
    folder(at)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=at, check=True)
    return at


def bundle(at: Path) -> Path:
    git(at)
    subprocess.run(["git", "bundle", "create", "-q", "x.bundle", "HEAD", "--all"], cwd=at, check=True)
    return at / "x.bundle"


def tar_bytes(mode: str = "w", top: str = "") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in FILES.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def tar(name: str, mode: str = "w", top: str = "") -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        at.mkdir()
        data = tar_bytes(mode, top)
        (at / name).write_bytes(zstandard.compress(data) if name.endswith(".zst") else data)
        return at / name

    return make


def gem(at: Path) -> Path:
    at.mkdir()
    with tarfile.open(at / "x-1.gem", "w") as outer:
        for name, data in (("metadata.gz", b"?"), ("data.tar.gz", tar_bytes("w:gz"))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            outer.addfile(info, io.BytesIO(data))
    return at / "x-1.gem"


def zipped(name: str, top: str = "") -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        at.mkdir()
        with zipfile.ZipFile(at / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in FILES.items():
                archive.writestr(top + path, data)
        return at / name

    return make


def stack(at: Path) -> Path:
    """The Stack 1: a row a file; licence files are not in it, licences are."""
    at.mkdir()
    kept = {name: data for name, data in FILES.items() if name != "LICENSE"}
    columns: dict[str, list[Any]] = {
        "max_stars_repo_path": list(kept),
        "max_stars_repo_name": ["g"] * len(kept),
        "max_stars_repo_licenses": [["MIT"]] * len(kept),
        "max_stars_count": [None] * len(kept),
        "content": [data.decode() for data in kept.values()],
    }
    pq.write_table(pa.table(columns), at / "train-00000.parquet", row_group_size=2)
    return at / "train-00000.parquet"


HOLDERS = {
    "folder": folder,
    "git": git,
    "bundle": bundle,
    "tar": tar("x.tar"),
    "sdist": tar("x-1.0.tar.gz", "w:gz", "x-1.0/"),
    "npm": tar("x.tgz", "w:gz", "package/"),
    "a forge's": tar("0123abc.tar.gz", "w:gz", "x-0123abc/"),
    "bz2": tar("x.tar.bz2", "w:bz2"),
    "xz": tar("x.tar.xz", "w:xz"),
    "zst": tar("x.tar.zst"),
    "named wrongly": tar("x.tar", "w:gz"),
    "gem": gem,
    "zip": zipped("x.zip"),
    "zip of a forge": zipped("x-main.zip", "x-main/"),
    "wheel": zipped("x-1-py3-none-any.whl"),
    "stack": stack,
}


def mined(path: Path, **more: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows without what names the content as a whole, and the ledger."""
    table, ledger = mine_repository_shard({"repository": str(path), "group": "g", **more}, OPTIONS)
    ledger.check("test")
    return table.drop_columns(["version", "function_id"]).to_pylist(), ledger.to_dict()


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_same_files_give_the_same_rows_whatever_holds_them(tmp_path: Path, holder: str) -> None:
    rows, ledger = mined(git(tmp_path / "git"))
    assert [row["path"] for row in rows] == ["cmd/main.go", "pkg/a.py", "pkg/größe 日本.py"]
    assert {row["licence"] for row in rows} == {"MIT"}
    theirs, counted = mined(HOLDERS[holder](tmp_path / "held"))
    assert theirs == rows
    if holder == "stack":  # the licence is no file of it
        ledger["files"]["read"] -= 1
        ledger["files"]["dropped"]["other_language"] -= 1
    assert counted == ledger


@pytest.mark.parametrize("holder", ["git", "folder", "zip", "stack"])
def test_parts_together_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: str) -> None:
    """With the version that was planned, and no part more than once."""
    path = HOLDERS[holder](tmp_path / "held")
    monkeypatch.setattr(tree, "PART_BYTES", 100)
    monkeypatch.setattr(parquet, "PART_BYTES", 100)
    shards = shards_of(str(path), "", OPTIONS, {"group": "g", "licence": ""})
    assert len(shards) > 1
    whole, ledger = mine_listed_shard({"repository": str(path), "group": "g"}, OPTIONS)
    pieces = [mine_listed_shard(shard, OPTIONS) for shard in shards]
    joined = pa.concat_tables([table for table, _ in pieces])
    assert joined.sort_by([("path", "ascending")]).to_pylist() == whole.to_pylist()
    assert sum((part for _, part in pieces[1:]), pieces[0][1]).to_dict() == ledger.to_dict()


def test_the_version_is_the_content(tmp_path: Path) -> None:
    """A folder's does not change with what is not mined, nor with where it stands; an archive's is its digest."""
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    (two / "note.txt").write_text("not mined")
    before = [shards_of(str(path), "", OPTIONS, {})[0]["version"] for path in (one, two)]
    (two / "pkg" / "a.py").write_text("x = 1\n")
    after = shards_of(str(two), "", OPTIONS, {})[0]["version"]
    assert before[0] == before[1] != after


def member(
    name: str, data: bytes = b"x = 1\n", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


GOOD = member("good.py", CODE.format(name="good").encode())


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (member("/etc/a.py"), "unsafe_path"),
        (member("../a.py"), "unsafe_path"),
        (member("a/../../b.py"), "unsafe_path"),
        (member("C:/a.py"), "unsafe_path"),
        (member("link.py", b"", tarfile.SYMTYPE, "/etc/passwd"), "not_a_file"),
        (member("hard.py", b"", tarfile.LNKTYPE, "good.py"), "not_a_file"),
        (member("pipe.py", b"", tarfile.FIFOTYPE), "not_a_file"),
        (member("large.py", b"#" * 1_100_000), "too_large"),
        (member("good.py", b"x = 1\n"), None),
    ],
)
def test_what_a_member_may_not_be_is_counted_by_reason(
    tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], reason: str | None
) -> None:
    rows, ledger = mined(archive(tmp_path / "x.tar", bad, GOOD))
    assert [row["path"] for row in rows] == ["good.py"]
    assert ledger["files"] == {"read": 2, "kept": 1, "dropped": {reason or "replaced": 1}}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_damage_costs_itself_alone_and_is_counted(tmp_path: Path, mode: str) -> None:
    """Cut off anywhere, or a header overwritten: what is whole before it and after it stays, and nothing ends in silence."""
    noise = random.Random(0)
    members = []
    for i in range(20):
        members.append(member(f"{i:02}.py", f"{CODE.format(name=f'f{i}')}\n# {noise.randbytes(3000).hex()}\n".encode()))
    whole = archive(tmp_path / "x.tar", *members, mode=mode).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    rows, ledger = mined(cut)
    assert set(ledger["files"]["dropped"]) == {"damaged"}  # the one that was cut, and what came after it
    if mode in ("w", "w:gz"):
        assert 0 < len(rows) < 20
    if mode == "w":
        at = whole.index(b"10.py")
        cut.write_bytes(whole[: at - 2] + b"\xff" * 600 + whole[at + 598 :])
        rows, ledger = mined(cut)
        assert (len(rows), ledger["files"]["dropped"]) == (19, {"damaged": 1})


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "FREE_BYTES", 100_000)
    large = member("zeros.py", bytes(5_000_000))
    rows, ledger = mined(archive(tmp_path / "x.tar.gz", GOOD, large, member("late.py"), mode="w:gz"))
    assert [row["path"] for row in rows] == ["good.py"]
    assert ledger["files"]["dropped"] == {"too_large": 1, "unpacks_too_far": 1}
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for i in range(9):
            zipped.writestr(f"{i}.py", bytes(900_000))
    assert mined(tmp_path / "x.zip")[1]["files"]["dropped"]["unpacks_too_far"] == 8


def test_a_bundle_is_unpacked_beside_no_repository_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook, for which git has set its folders in the environment."""
    path = bundle(tmp_path / "held")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "objects"))
    assert len(mined(path)[0]) == 3
    assert not (tmp_path / "objects").exists()


def test_what_a_zip_may_hide(tmp_path: Path) -> None:
    """A size that lies, a link, paths out of it, a damaged member: the others are read."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("good.py", CODE.format(name="good"))
        zipped.writestr("..\\..\\up.py", "x")
        zipped.writestr("/abs.py", "x")
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "good.py")
        zipped.writestr("bad.py", b"y = 'DAMAGE'\n")
        zipped.writestr("locked.py", b"z = 'LOCKED'\n")
    data = bytearray(path.read_bytes())
    data[data.index(b"DAMAGE")] ^= 1
    central = data.rindex(b"locked.py") - 46
    data[central + 8] |= 1  # the flag of an encrypted member
    path.write_bytes(bytes(data))
    rows, ledger = mined(path)
    assert [row["path"] for row in rows] == ["good.py"]
    assert ledger["files"]["dropped"] == {"encrypted": 1, "not_a_file": 1, "unreadable": 1, "unsafe_path": 2}


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_costs_itself_alone(tmp_path: Path, packed: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", packed) as zipped:
        zipped.writestr("good.py", CODE.format(name="good"))
        zipped.writestr("bad.py", f"# {random.Random(0).randbytes(300).hex()}\n")
    data = bytearray(path.read_bytes())
    at = data.index(b"bad.py") + 40
    data[at : at + 200] = b"\xff" * 200
    path.write_bytes(data)
    rows, ledger = mined(path)
    assert [row["path"] for row in rows] == ["good.py"]
    assert ledger["files"]["dropped"] == {"unreadable": 1}


def test_a_zip_of_a_later_version_is_the_users_error(tmp_path: Path) -> None:
    path = zipped("x.zip")(tmp_path / "held")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 255  # the version that unpacks its first member
    path.write_bytes(data)
    with pytest.raises(UserError, match="no zip that can be read"):
        mined(path)


def test_only_what_opens_a_zip_is_its_fault(tmp_path: Path) -> None:
    """What goes wrong while it is open is said as it is."""
    with pytest.raises(ValueError, match="of ours"), opened(str(zipped("x.zip")(tmp_path / "held"))):
        raise ValueError("of ours")


def test_links_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    at = folder(tmp_path / "x")
    (at / "round").symlink_to(at)
    (at / "other.py").symlink_to(at / "pkg" / "a.py")
    os.mkfifo(at / "pipe.py")
    rows, ledger = mined(at)
    assert len(rows) == 3
    assert ledger["files"]["dropped"]["not_a_file"] == 3


@pytest.mark.parametrize("name", ["x.zip", "x.parquet", "x.bundle", "x.rar", "gone"])
def test_what_is_no_archive_is_the_users_error(tmp_path: Path, name: str) -> None:
    if name != "gone":
        (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(UserError) as caught:
        mined(tmp_path / name)
    assert caught.value.fix
    table, ledger = mine_listed_shard({"repository": str(tmp_path / name), "group": "g"}, OPTIONS)
    assert table.num_rows == 0
    assert ledger.to_dict()["repositories"]["dropped"] == {"unreadable": 1}


def test_parquet_holds_many_repositories(tmp_path: Path) -> None:
    """Each row's repository is its group, with its own licences; two files of one path in two of them are two."""
    columns = {
        "content": [CODE.format(name=name) for name in ("one", "two", "three")] + [None, "x = 1"],
        "path": ["a.py", "a.py", "b.py", "c.py", "../up.py"],
        "repo_name": ["o/one", "o/two", "o/one", "o/one", "o/one"],
        "detected_licenses": [["MIT"], ["Apache-2.0", "GPL-3.0-only"], [], ["MIT"], ["MIT"]],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    table, ledger = mine_repository_shard({"repository": str(tmp_path / "x.parquet"), "group": "g"}, OPTIONS)
    assert list(
        zip(table["group"].to_pylist(), table["name"].to_pylist(), table["licence"].to_pylist(), strict=True)
    ) == [
        ("o/one", "one", "MIT"),
        ("o/one", "three", "unknown"),
        ("o/two", "two", "Apache-2.0 AND GPL-3.0-only"),
    ]
    assert ledger.to_dict()["files"]["dropped"] == {"missing_blob": 1, "unsafe_path": 1}


def test_damage_in_a_parquet_costs_its_row_group_or_its_value(tmp_path: Path) -> None:
    """A page that does not unpack, a text that is none; without the paths nothing can be had."""
    columns = {
        "content": [CODE.format(name=f"f{i}") for i in range(4)],
        "path": [f"{i}.py" for i in range(4)],
        "repo_name": ["o/one"] * 4,
    }
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table(columns), whole, row_group_size=2, use_dictionary=False, write_statistics=False)
    layout = pq.read_metadata(whole)

    def damaged(group: int, column: int) -> Path:
        about = layout.row_group(group).column(column)
        data = bytearray(whole.read_bytes())
        end = about.data_page_offset + about.total_compressed_size
        data[end - 20 : end] = b"\xff" * 20
        (tmp_path / "x.parquet").write_bytes(data)
        return tmp_path / "x.parquet"

    table, ledger = mine_listed_shard({"repository": str(damaged(1, 0)), "group": "g"}, OPTIONS)
    assert table["name"].to_pylist() == ["f0", "f1"]
    assert ledger.to_dict()["files"]["dropped"] == {"unreadable": 2}
    _, ledger = mine_listed_shard({"repository": str(damaged(1, 1)), "group": "g"}, OPTIONS)
    assert ledger.to_dict()["repositories"]["dropped"] == {"unreadable": 1}
    pq.write_table(pa.table(columns), whole, compression="none", use_dictionary=False, write_statistics=False)
    data = whole.read_bytes().replace(b"the gr\xc3\xb6\xc3\x9fe", b"the gr\xff\xff\xc3\x9fe", 1)
    (tmp_path / "x.parquet").write_bytes(data)
    table, ledger = mine_listed_shard({"repository": str(tmp_path / "x.parquet"), "group": "g"}, OPTIONS)
    assert table["name"].to_pylist() == ["f1", "f2", "f3"]
    assert ledger.to_dict()["files"]["dropped"] == {"not_utf8": 1}
