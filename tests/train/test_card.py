"""The model card stands with every export, and says what the manifests say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from cpt_ray.artifacts import Ledger, parquet
from cpt_ray.artifacts.store import build, read_manifest
from cpt_ray.train import card
from cpt_ray.train.loop import train_model
from cpt_ray.train.options import TrainOptions
from tests.train.conftest import SMALL


def _pairs(folder: Path) -> str:
    """Two parts of a pairs artifact: 40 training pairs of three licences, one of them unknown, and 4 held out."""
    licences = ["MIT"] * 20 + ["BSD|odd\nname"] * 15 + [None] * 5 + ["MIT"] * 4
    table = pa.table(
        {
            "source": pa.array(["code"] * 30 + ["text"] * 14),
            "licence": pa.array(licences),
            "split": pa.array(["train"] * 40 + ["heldout"] * 4),
            "x": pa.array([str(i) for i in range(44)]),
        }
    )
    ledger = Ledger.of("functions", read=60, kept=44, dropped={"no_docstring": 12, "duplicate": 4})
    with build(str(folder / "pairs"), step="code_pairs", version=1, params={}) as work:
        parquet.write_table(f"{work.path}/part-00000.parquet", table.slice(0, 25))
        parquet.write_table(f"{work.path}/part-00001.parquet", table.slice(25))
        work.publish(ledger, rows=44, schema=table.schema)
    return str(folder / "pairs")


def _rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table that begins with `head`."""
    table = text.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def test_the_data_is_counted_by_source_and_licence(tmp_path: Path) -> None:
    """Training pairs alone, over all parts; the ledger as the artifact has it."""
    data = card.Data.of(_pairs(tmp_path))
    assert dict(data.sources) == {
        ("code", "MIT"): 20,
        ("code", "BSD|odd\nname"): 10,
        ("text", "BSD|odd\nname"): 5,
        ("text", card.UNKNOWN): 5,
    }
    assert dict(data.splits) == {"train": 40, "heldout": 4}
    assert data.ledger["functions"].read == 60


@pytest.fixture
def written(corpus: dict[str, str], tokenizer: str, tmp_path: Path) -> Any:
    def write(name: str, **arguments: Any) -> tuple[str, Any]:
        options = TrainOptions(
            workers=0, engine="reference", precision="fp32", evaluate_every=5, chunk_tokens=256, steps=5
        )
        places = {"out": str(tmp_path / name / "shown.building"), "scratch": str(tmp_path / name / "scratch")}
        result = train_model(
            options,
            SMALL,
            batches=corpus["batches"],
            heldout=corpus["heldout"],
            tokenizer=tokenizer,
            **places,
            **arguments,
        )
        return Path(places["out"], card.NAME).read_text(), result

    return write


def test_every_export_has_its_card(written: Any, tmp_path: Path) -> None:
    """In front what hubs read; then data with its counts, recipe, figures, limits and how to load it; the same each time."""
    text, result = written("one", pairs=_pairs(tmp_path))
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "sentence-transformers"
    assert "# shown\n" in text
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["How to load it", "Data", "Recipe", "Figures", "Limits"]
    data = _rows(text, "| source | licence | training pairs |")
    assert data == [
        ["code", "MIT", "20"],
        ["code", "BSD\\|odd name", "10"],
        ["text", "BSD\\|odd name", "5"],
        ["text", "not stated", "5"],
        ["**all**", "", "**40**"],
    ]
    assert _rows(text, "| unit | read | kept | dropped |") == [
        ["functions", "60", "44", "no docstring 12, duplicate 4"]
    ]
    recipe = dict(_rows(text, "| what | value |"))
    assert (recipe["pairs in a batch"], recipe["steps"], recipe["pairs seen"]) == ("32", "5", "160")
    figures = dict(_rows(text, "| figure | value |"))
    assert figures["MRR"] == f"{result.metrics[-1]['heldout_mrr']:.3f}"
    assert "each of 64 held-out x" in text
    assert written("two", pairs=str(tmp_path / "pairs"))[0] == text


def test_the_card_counts_the_pairs_that_the_figures_are_of(
    corpus: dict[str, str], tokenizer: str, tmp_path: Path
) -> None:
    """Held-out figures are of batch 0, however many batches the held-out order has."""
    held = read_manifest(corpus["batches"])
    assert held.rows > held.params["batch_size"]
    options = TrainOptions(workers=0, engine="reference", precision="fp32", chunk_tokens=256, steps=1)
    places = {"out": str(tmp_path / "model"), "scratch": str(tmp_path / "scratch")}
    train_model(options, SMALL, batches=corpus["batches"], heldout=corpus["batches"], tokenizer=tokenizer, **places)
    assert f"each of {held.params['batch_size']} held-out x" in Path(places["out"], card.NAME).read_text()


def test_without_pairs_the_card_says_so(written: Any) -> None:
    assert "## Data\n\nNot told to the training." in written("one")[0]


def test_many_sources_are_summed() -> None:
    sources = {(f"s{i:03d}", "MIT"): 100 - i for i in range(100)}
    (table, *_) = card._data(card.Data(sources, {"train": 5050}, {}, "d"))
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) == card.MOST + 2
    assert rows[-2] == ["| 75 more", "", "2,850 |"]
    assert rows[-1] == ["| **all**", "", "**5,050** |"]
