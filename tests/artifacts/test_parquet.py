"""What Parquet says of itself before it is read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.artifacts import parquet

TEXTS = ["", None, "four", "ü"] * 25  # 6 bytes in four rows


def cut(folder: Path, files: int, row_group: int) -> list[str]:
    """The same rows in so many files."""
    names = [str(folder / f"{files}-{row_group}-{at}.parquet") for at in range(files)]
    for at, name in enumerate(names):
        rows = slice(at * len(TEXTS) // files, (at + 1) * len(TEXTS) // files)
        table = pa.table({"text": pa.array(TEXTS[rows], pa.string()), "n": range(rows.stop - rows.start)})
        pq.write_table(table, name, row_group_size=row_group)
    return names


@pytest.mark.parametrize(("files", "row_group"), [(1, 100), (1, 7), (9, 100), (9, 2)])
def test_small_is_what_has_few_rows_and_little_text_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, row_group: int
) -> None:
    shards = parquet.shards_of(cut(tmp_path, files, row_group))
    for most, size, small in ((100, 150, True), (99, 150, False), (100, 149, False), (0, 0, False)):
        monkeypatch.setattr(parquet, "TABLE_BYTES", size)
        assert parquet.is_small(shards, most, ["text"]) is small
    assert parquet.is_small([], 0, ["text"])
    assert sum(shard["rows"] for shard in shards) == 100
    assert sum(shard["bytes"] for shard in shards) > 800  # the numbers, at least
