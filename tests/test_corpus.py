"""The data path from Python: the documents of the command line, Ray Data between the steps, and the examples as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cpt_ray
from cpt_ray import corpus
from cpt_ray.artifacts import Ledger, build, shards
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.code.functions import FUNCTIONS
from cpt_ray.errors import UserError
from cpt_ray.web.extract import DOCUMENTS
from cpt_ray.web.options import ExtractOptions
from tests.pipelines.test_bucket import write_archive
from tests.serve.conftest import model_folder

__all__ = ["model_folder"]

PAGE = (Path(__file__).parent.parent / "docs" / "data-engineer.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.partition("## From Python")[2].partition("\n## ")[0], re.S)
DATES = '''
def parse_date(text):
    """Read a date as people write it, and give year, month and day as numbers."""
    day, month, year = text.split(".")
    numbers = int(year), int(month), int(day)
    if not all(numbers):
        raise ValueError(text)
    return numbers
'''


@pytest.mark.path
@pytest.mark.timeout(300)
@pytest.mark.parametrize("artifacts_on_ray", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_examples_run_and_their_documents_are_those_of_the_command(
    tmp_path, monkeypatch, artifacts_on_ray, model_folder
):
    """The code of the page, in order; then a Dataset is the rows of the artifact, with what the command extracts."""
    if not artifacts_on_ray:  # they are published here, shard by shard, and Datasets alone are Ray's
        monkeypatch.setattr(shards, "_ray_is_up", lambda: False)
    (tmp_path / "archives").mkdir()
    write_archive(tmp_path / "archives" / "a.warc.gz")
    (tmp_path / "dates.py").write_text(DATES)
    shutil.copytree(model_folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with connect(ClusterOptions(cpus=2)):
        names: dict[str, object] = {}
        for code in EXAMPLES:
            # One session serves the page and the rest of this test.
            exec(code.replace("ray.init(num_cpus=2, include_dashboard=False)", ""), names)
        pairs, code_pairs, lengths = (names[name] for name in ("pairs", "code_pairs", "lengths"))
        assert isinstance(pairs, cpt_ray.Artifact)
        assert pairs.manifest.rows > 0
        vectors = names["vectors"]
        assert isinstance(vectors, cpt_ray.Artifact)
        assert vectors.table(["key"])["key"].to_pylist() == pairs.table(["pair_id"])["pair_id"].to_pylist()
        if artifacts_on_ray:
            beside = {row["pair_id"]: row["vector"] for row in names["beside"].take_all()}  # type: ignore[attr-defined]
            for row in vectors.table().to_pylist():
                assert beside[row["key"]] == pytest.approx(row["vector"], abs=2e-6)
        found = sorted(row["characters"] for row in lengths.take_all())  # type: ignore[attr-defined]
        assert found == sorted(map(len, pairs.table(["y"])["y"].to_pylist()))
        frame, sides, rows = (names[name] for name in ("frame", "sides", "rows"))  # by other readers
        assert len(frame) == sum(count for _, count in sides) == rows.count() == pairs.manifest.rows  # type: ignore[arg-type, attr-defined, union-attr]
        assert isinstance(code_pairs, cpt_ray.Artifact)
        (pair,) = code_pairs.table(["x", "y"]).to_pylist()
        assert pair["x"].startswith("Read a date as people write it")
        assert "int(month)" in pair["y"]
        by_command = cpt_ray.extract("archives", to=str(tmp_path / "documents"))
        assert isinstance(by_command, cpt_ray.Artifact)
        given = names["records"]
        frame = corpus.extract(given).to_pandas().sort_values("url", ignore_index=True)  # type: ignore[arg-type, union-attr]
        assert frame["doc_id"].tolist() == by_command.table()["doc_id"].to_pylist()
        assert frame.columns.tolist() == DOCUMENTS.names
        again = cpt_ray.store(by_command.dataset(), to=str(tmp_path / "again"))
        assert again.table().sort_by("url").equals(by_command.table())
        assert cpt_ray.store(by_command.dataset(), to=str(tmp_path / "again")).manifest == again.manifest
        assert not (tmp_path / "again.blocks").exists()
        monkeypatch.setattr(shards, "_ray_is_up", lambda: True)
        with pytest.raises(UserError) as caught:
            _shards_that_refuse(str(tmp_path / "refused"))
        assert (caught.value.what, caught.value.where, caught.value.fix) == ("no good", "a file", "give another")


def _shards_that_refuse(path: str) -> None:
    def work(shard: object) -> tuple[pa.Table, Ledger]:  # not of this module, which Ray's workers cannot import
        try:
            raise OSError("below")
        except OSError as error:
            raise UserError("no good", where="a file", fix="give another") from error

    schema = pa.schema([("n", pa.int64())])
    shards.run_shards(path, step="s", version=1, params={}, inputs={}, shards=[{}, {}], work=work, schema=schema)


def test_columns_that_are_not_there_are_said(tmp_path):
    """Of an artifact before anything runs, of a batch when it comes; and archives need a place for what becomes of them."""
    with build(str(tmp_path / "rows"), step="toy", version=1, params={}) as work:
        work.write("part-00000.parquet", pa.table({"id": ["a"]}))
        work.publish(Ledger.of("rows", read=1, kept=1), rows=1, schema=pa.schema([("id", pa.string())]))
    rows = cpt_ray.Artifact(str(tmp_path / "rows"))
    with pytest.raises(UserError, match="no column 'doc_id'"):
        cpt_ray.deduplicate(rows, to=str(tmp_path / "clusters"))
    with pytest.raises(UserError, match="no column 'text'"):
        cpt_ray.deduplicate(rows, id_column="id", to=str(tmp_path / "clusters"))
    with pytest.raises(UserError, match="extract reads the column 'file'"):
        corpus._documents(pa.table({"url": ["x"]}), options=ExtractOptions())
    with pytest.raises(UserError, match="mine reads the column 'content'"):
        corpus._functions(pa.table({"group": ["g"], "path": ["p"]}), options=corpus.MineOptions())
    with pytest.raises(UserError, match="name a path"):
        cpt_ray.extract(str(tmp_path))
    assert not (tmp_path / "clusters.phases").exists()


@pytest.mark.parametrize(("column", "runs"), [("url", True), ("title", True), ("text", False), ("host", False)])
def test_columns_of_other_types_are_read_or_said(tmp_path, column, runs):
    """Parquet of others has columns without a value, which are of no type, and dictionaries of strings."""
    table = pa.table({f.name: pa.nulls(2, f.type) for f in DOCUMENTS})
    paragraph = "The harbour wall was built of grey stone, and boats went out past it. "
    given = {
        "doc_id": ["a", "b"],
        "group": ["g", "g"],
        "host": ["h", "h"],
        "text": [paragraph * 5, paragraph[::-1] * 5],
    }
    for name, values in given.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    odd = pa.nulls(2) if runs else pa.array(given[column]).dictionary_encode()
    table = table.set_column(table.schema.get_field_index(column), column, odd)
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = str(tmp_path / "rows.parquet")
    if not runs:
        with pytest.raises(UserError, match=rf"the column '{column}' is dictionary.*, and not text"):
            cpt_ray.clean(rows, to=str(tmp_path / "clean"))
        return
    clean = cpt_ray.clean(rows, to=str(tmp_path / "clean"))
    clusters = cpt_ray.deduplicate(clean, to=str(tmp_path / "clusters"))
    assert cpt_ray.pair_texts(clean, clusters, to=str(tmp_path / "pairs")).manifest.balance.rows_in == 2


def test_batches_of_files_are_mined_as_they_are_alone():
    """Files of several groups and licences in one batch; without any, the columns all the same."""
    rows = {"group": ["a", "b", "a"], "path": ["x.py", "x.py", "y.txt"], "content": [DATES.encode()] * 3}
    table = corpus._functions(pa.table({**rows, "licence": ["MIT", "", "MIT"]}), options=corpus.MineOptions())
    assert sorted(zip(*(table[name].to_pylist() for name in ("group", "path", "licence")), strict=True)) == [
        ("a", "x.py", "MIT"),
        ("b", "x.py", "unknown"),
    ]
    assert (
        corpus._functions(pa.table(rows, schema=corpus.FILES).slice(0, 0), options=corpus.MineOptions()).schema
        == FUNCTIONS
    )


def test_names_of_the_package_are_found_when_they_are_asked_for():
    assert {"extract", "pair_code", "__version__"} <= set(dir(cpt_ray))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cpt_ray.nothing  # noqa: B018
