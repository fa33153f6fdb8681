"""Parquet of somebody else as an artifact: found, read where it is, known by its content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.artifacts import parts, read_manifest, read_table
from cpt_ray.artifacts.adopted import adopt, find_parquet, is_artifact
from cpt_ray.artifacts.parquet import read_schema
from cpt_ray.artifacts.places import locate, write
from cpt_ray.errors import UserError


def _write(folder: Path, name: str, start: int, rows: int = 3) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": range(start, start + rows), "text": [f"t{start + i}" for i in range(rows)]}), path)
    return path


def test_files_stay_where_they_are(tmp_path: Path) -> None:
    """A folder with folders, without what its writer hides; the order is that of the names, and nothing is copied."""
    data = tmp_path / "data"
    for number, name in enumerate(("b/2.parquet", "a.pq", "_tmp/9.parquet", ".x.parquet", "b/_SUCCESS.parquet")):
        _write(data, name, 10 * number)
    (data / "README.md").write_text("about")
    made = adopt(str(tmp_path / "rows"), source=str(data))
    assert parts(str(tmp_path / "rows")) == [str(data / "a.pq"), str(data / "b/2.parquet")]
    assert read_table(str(tmp_path / "rows"))["id"].to_pylist() == [10, 11, 12, 0, 1, 2]
    assert made.columns == {"id": "int64", "text": "string"}
    assert (made.rows, made.balance.kept) == (6, 6)
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["manifest.json"]
    assert find_parquet(str(data / "_tmp/9.parquet")) == [str(data / "_tmp/9.parquet")]
    assert find_parquet(str(data / "*.pq")) == [str(data / "a.pq")]


def test_identity_is_content_wherever_it_lies(tmp_path: Path) -> None:
    """The same files moved are the same artifact, read in their new place; another byte makes another."""
    _write(tmp_path / "one", "a.parquet", 0)
    first = adopt(str(tmp_path / "rows"), source=str(tmp_path / "one"))
    shutil.move(tmp_path / "one", tmp_path / "two")
    second = adopt(str(tmp_path / "rows"), source=str(tmp_path / "two"))
    assert second.digest == first.digest
    assert parts(str(tmp_path / "rows")) == [str(tmp_path / "two/a.parquet")]
    assert adopt(str(tmp_path / "rows"), source=str(tmp_path / "two")) == second
    _write(tmp_path / "two", "a.parquet", 1)
    assert adopt(str(tmp_path / "rows"), source=str(tmp_path / "two")).digest != first.digest


def test_in_a_bucket_nothing_of_the_user_is_removed(tmp_path: Path, s3: str) -> None:
    """Source and manifest in a bucket: built again over another, both sources are there afterwards."""
    fs, _ = locate(s3)
    for number, name in enumerate(("first", "second")):
        file = _write(tmp_path, f"{name}.parquet", number)
        write(fs, locate(f"{s3}/adopted/{name}/x.parquet")[1], file.read_bytes())
        adopt(f"{s3}/adopted/rows", source=f"{s3}/adopted/{name}")
        assert parts(f"{s3}/adopted/rows") == [f"{s3}/adopted/{name}/x.parquet"]
        assert read_table(f"{s3}/adopted/rows")["id"].to_pylist() == [number, number + 1, number + 2]
    assert find_parquet(f"{s3}/adopted/first") == [f"{s3}/adopted/first/x.parquet"]
    assert read_manifest(f"{s3}/adopted/rows").rows == 3
    assert is_artifact(f"{s3}/adopted/rows")


def test_what_cannot_be_taken_is_said(tmp_path: Path) -> None:
    """Nothing there, no Parquet, columns of other names or types."""
    with pytest.raises(UserError, match="no artifact and no Parquet"):
        adopt(str(tmp_path / "rows"), source=str(tmp_path / "nowhere"))
    damaged = b"PAR1" + b"\xff" * 64 + (64).to_bytes(4, "little") + b"PAR1"  # in its footer
    for content in (b"", b"text", damaged):
        (tmp_path / "text.parquet").write_bytes(content)
        with pytest.raises(UserError, match="no Parquet: "):
            adopt(str(tmp_path / "rows"), source=str(tmp_path / "text.parquet"))
        with pytest.raises(UserError, match="no Parquet: "):
            read_schema(str(tmp_path / "text.parquet"))
    (tmp_path / "text.parquet").unlink()
    _write(tmp_path / "data", "a.parquet", 0)
    pq.write_table(pa.table({"id": ["x"], "text": ["y"]}), tmp_path / "data/b.parquet")
    with pytest.raises(UserError, match="id int64 -> string"):
        adopt(str(tmp_path / "rows"), source=str(tmp_path / "data"))
    assert not is_artifact(str(tmp_path / "rows"))
