"""`cpt-ray dedup`: crawl by crawl against an index keeps what one run over everything keeps."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.artifacts import read_table
from cpt_ray.cluster import ClusterOptions
from cpt_ray.dedup.signatures import parquet_files
from cpt_ray.errors import UserError
from pipelines import dedup, quality_model


def _documents(folder: Path, numbers: range) -> str:
    """Two files of texts, of which every fifth is a near copy of the one five before."""
    folder.mkdir()
    rows = []
    for n in numbers:
        words = [f"w{random.Random(n - 5 if n % 5 == 0 else n).randrange(10**6) + i}" for i in range(60)]
        rows.append({"name": f"d{n:03d}", "body": " ".join([*words, f"tail{n}"])})
    for part in (0, 1):
        pq.write_table(pa.Table.from_pylist(rows[part::2]), folder / f"{part}.parquet")
    return str(folder)


def _run(out: Path, name: str, source: str, index: str | None = None) -> dict[str, bool]:
    options = dedup.PipelineOptions(
        cluster=ClusterOptions(outputs=str(out)),
        source=source,
        id_column="name",
        text_column="body",
        index=index,
        output=name,
    )
    for wanted in dedup.flow(str(out / name), options):
        wanted.make()
    table = read_table(str(out / name / "clusters"))
    return dict(zip(table["doc_id"].to_pylist(), table["kept"].to_pylist(), strict=True))


def test_crawl_by_crawl_keeps_what_one_run_keeps(tmp_path: Path) -> None:
    first, second = _documents(tmp_path / "one", range(40)), _documents(tmp_path / "two", range(40, 80))
    whole = _run(tmp_path, "whole", _documents(tmp_path / "all", range(80)))
    kept = _run(tmp_path, "january", first)
    kept |= _run(tmp_path, "february", second, str(tmp_path / "january" / "index"))
    assert kept == whole
    assert 0 < sum(not one for one in whole.values()) < 20


def test_a_source_is_found_as_other_commands_find_theirs(tmp_path: Path) -> None:
    """By either suffix and by a pattern; what a writer hides is none of it."""
    folder = Path(_documents(tmp_path / "all", range(8)))
    (folder / "1.parquet").rename(folder / "1.pq")
    (folder / "_temporary.parquet").write_bytes(b"half of a file")
    assert parquet_files(str(folder)) == parquet_files(f"{folder}/[01].*") == [f"{folder}/0.parquet", f"{folder}/1.pq"]
    assert len(_run(tmp_path, "out", str(folder))) == 8


def test_a_source_without_parquet_is_said(tmp_path: Path) -> None:
    options = dedup.PipelineOptions(source=str(tmp_path))
    with pytest.raises(UserError, match="no artifact and no Parquet") as caught:
        dedup.flow(str(tmp_path / "out"), options)
    assert caught.value.where == f"source={tmp_path}"


def test_an_index_in_a_bucket_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """It is raw files, as a model is: the clusters of days would stand, and the command would fail behind them."""
    options = dedup.PipelineOptions(
        cluster=ClusterOptions(outputs="s3://corpus/runs"),
        source=_documents(tmp_path / "source", range(10)),
        id_column="name",
        text_column="body",
    )
    with pytest.raises(UserError, match="written to a folder"):
        dedup.run(options)
    examples = str(tmp_path / "source")
    with pytest.raises(UserError, match="written to a folder"):
        quality_model.run(quality_model.PipelineOptions(cluster=options.cluster, good=examples, bad=examples))
