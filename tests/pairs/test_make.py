"""Pairs as artifacts: decontaminated, split, counted; the same rows again are not made again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.artifacts import Ledger, Manifest, build, parquet, read_table
from cpt_ray.code.functions import FUNCTIONS, Origin, Source, mine
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError
from cpt_ray.pairs.decontaminate import Evaluation, text_hashes
from cpt_ray.pairs.make import make_code_pairs, make_text_pairs
from cpt_ray.pairs.options import DocstringOptions, NeighbourOptions, SplitOptions
from cpt_ray.pairs.schema import PAIRS
from cpt_ray.pairs.splits import side

SPLIT = SplitOptions(heldout_share=0.5)
GROUPS = [f"g{i}" for i in range(6)]


def publish(path: Path, table: pa.Table) -> str:
    with build(str(path), step="toy", version=1, params={}) as work:
        parquet.write_table(f"{work.path}/part-00000.parquet", table)
        work.publish(Ledger.of("rows", read=len(table), kept=len(table)), rows=len(table), schema=table.schema)
    return str(path)


def alone(ids: list[str]) -> pa.Table:
    """Clusters of one document each."""
    return pa.table({"doc_id": ids, "cluster_id": ids, "kept": [True] * len(ids)})


@pytest.fixture
def mined(tmp_path) -> dict[str, str]:
    """Paths of functions and clusters: 5 documented functions in each of 6 groups, no two alike."""
    tables = []
    for group in GROUPS:
        code = "".join(
            f'def {group}_{i}(a, b):\n    """Adds the numbers of {group}, way {i}."""\n    c = a + {i}\n    return c + b\n\n'
            for i in range(5)
        )
        tables.append(mine([Source("m.py", code.encode())], Origin(group, "1", "MIT"), MineOptions(min_words=1))[0])
    functions = pa.concat_tables(tables)
    assert functions.schema == FUNCTIONS
    return {
        "functions": publish(tmp_path / "functions", functions),
        "clusters": publish(tmp_path / "clusters", alone(functions["function_id"].to_pylist())),
    }


def code_pairs(path: Path, mined: dict[str, str], evaluation: Evaluation | None = None) -> Manifest:
    return make_code_pairs(str(path), **mined, docstrings=DocstringOptions(), split=SPLIT, evaluation=evaluation)


def test_code_pairs_are_split_by_group_and_counted(tmp_path, mined):
    """Every row stands on the side of its group, and `extra.splits` counts them."""
    manifest = code_pairs(tmp_path / "pairs", mined)
    table = read_table(str(tmp_path / "pairs"))
    assert table.schema == PAIRS
    assert table.num_rows == 30
    assert all(row["split"] == side(row["group"], SPLIT) for row in table.to_pylist())
    splits = table["split"].to_pylist()
    assert manifest.extra["splits"] == {name: splits.count(name) for name in set(splits)}
    assert len(set(splits)) == 2
    assert table["pair_id"].to_pylist() == sorted(table["pair_id"].to_pylist())
    manifest.balance.check("pairs")
    assert code_pairs(tmp_path / "pairs", mined).created == manifest.created


def test_an_evaluation_set_makes_it_another_artifact_without_those_pairs(tmp_path, mined):
    """One function of a test set: one pair less, dropped by name, and not mistaken for the pairs with it."""
    whole = code_pairs(tmp_path / "pairs", mined)
    asked = read_table(str(tmp_path / "pairs"))["y"][0].as_py()
    less = code_pairs(tmp_path / "pairs", mined, Evaluation(hashes=text_hashes([asked])))
    assert less.identity != whole.identity
    assert less.balance.dropped["test_text"] == whole.rows - less.rows == 1
    assert asked not in read_table(str(tmp_path / "pairs"))["y"].to_pylist()


def test_text_pairs_name_their_document(tmp_path):
    """x and y of a published pair are the characters of its document that the spans name."""
    texts = [" ".join(f"{group} word{i} tells of thing{i * 7}." for i in range(40)) for group in GROUPS]
    documents = pa.table({"doc_id": GROUPS, "group": GROUPS, "text": texts})
    manifest = make_text_pairs(
        str(tmp_path / "pairs"),
        documents=publish(tmp_path / "documents", documents),
        clusters=publish(tmp_path / "clusters", alone(GROUPS)),
        neighbours=NeighbourOptions(min_chars=40, max_chars=300),
        split=SPLIT,
    )
    rows = read_table(str(tmp_path / "pairs")).to_pylist()
    assert manifest.rows == len(rows) > 0
    of = dict(zip(GROUPS, texts, strict=True))
    for row in rows:
        assert of[row["x_doc"]][row["x_start"] : row["x_end"]] == row["x"]
        assert of[row["y_doc"]][row["y_start"] : row["y_end"]] == row["y"]
    manifest.balance.check("pairs")


def test_rows_that_are_no_artifact_are_refused(tmp_path, mined):
    """The place is named before anything is written."""
    with pytest.raises(UserError, match="no finished artifact"):
        code_pairs(tmp_path / "pairs", {**mined, "functions": str(tmp_path / "nothing")})
    assert not (tmp_path / "pairs").exists()
