"""The corpus of language modelling: nothing held out, nothing twice, in an order that only content and seed decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.artifacts import Ledger, Manifest, build, exchange, parquet, read_table
from cpt_ray.errors import UserError
from cpt_ray.pairs import corpus as rooms
from cpt_ray.pairs.corpus import CORPUS, Source, batches_of_texts, make_corpus
from cpt_ray.pairs.options import CorpusOptions, SplitOptions
from cpt_ray.pairs.splits import HELDOUT, side

SPLIT = SplitOptions(heldout_share=0.4)


def publish(path: Path, table: pa.Table, files: int = 1) -> str:
    with build(str(path), step="toy", version=1, params={}) as work:
        for number, rows in enumerate(np.array_split(np.arange(len(table)), files)):
            part = table.take(pa.array(rows))
            parquet.write_table(f"{work.path}/part-{number:05d}.parquet", part, row_group_size=7)
        work.publish(Ledger.of("rows", read=len(table), kept=len(table)), rows=len(table), schema=table.schema)
    return str(path)


@pytest.fixture
def source(tmp_path) -> Source:
    """60 documents of 12 groups; every tenth is a duplicate of the one before it."""
    ids = [f"d{i:03}" for i in range(60)]
    rows = pa.table(
        {
            "doc_id": ids,
            "group": [f"g{i % 12}" for i in range(60)],
            "title": [f"title {i}" for i in range(60)],
            "text": [f"text {i} " + "x" * 100 for i in range(60)],
        }
    )
    kept = [i % 10 != 9 for i in range(60)]
    clusters = pa.table(
        {"doc_id": ids, "cluster_id": [ids[i] if kept[i] else ids[i - 1] for i in range(60)], "kept": kept}
    )
    return Source(
        publish(tmp_path / "rows", rows), publish(tmp_path / "clusters", clusters), "doc_id", ("title", "text")
    )


def corpus(path: Path, source: Source, **options: int) -> tuple[Manifest, pa.Table]:
    manifest = make_corpus(str(path), {"text": source}, split=SPLIT, options=CorpusOptions(**options))
    return manifest, read_table(str(path))


def test_what_is_held_out_or_a_duplicate_is_left_out_by_name(tmp_path, source):
    """The corpus is exactly the kept documents of training groups, and the ledger says what became of the others."""
    manifest, table = corpus(tmp_path / "corpus", source)
    held = {f"g{i}" for i in range(12) if side(f"g{i}", SPLIT) == HELDOUT}
    assert held
    expected = {f"d{i:03}" for i in range(60) if i % 10 != 9 and f"g{i % 12}" not in held}
    assert set(table["id"].to_pylist()) == expected
    assert table.schema == CORPUS
    count = manifest.balance.check("corpus").units["texts"]
    assert (count.read, count.kept, count.dropped["duplicate"]) == (60, len(expected), 6)
    assert count.dropped["heldout"] == 54 - len(expected)
    first = table.to_pylist()[0]
    assert first["text"].startswith(f"title {int(first['id'][1:])}\ntext ")


def test_the_limits_take_the_first_of_the_order(tmp_path, source):
    """Fewer texts are a prefix of more, shorter texts a prefix of longer ones; another seed gives another order."""
    _, whole = corpus(tmp_path / "whole", source)
    manifest, part = corpus(tmp_path / "part", source, max_texts=10, max_characters=12)
    assert part["id"].to_pylist() == whole["id"].to_pylist()[:10]
    assert part["text"].to_pylist() == [text[:12] for text in whole["text"].to_pylist()[:10]]
    assert manifest.balance.check("corpus").units["chosen"].dropped == {"beyond_max_texts": len(whole) - 10}
    _, other = corpus(tmp_path / "other", source, seed=1)
    assert other["id"].to_pylist() != whole["id"].to_pylist()
    assert sorted(other["id"].to_pylist()) == sorted(whole["id"].to_pylist())
    assert [text for batch in batches_of_texts(str(tmp_path / "whole")) for text in batch] == whole["text"].to_pylist()


def test_clusters_of_another_corpus_are_refused(tmp_path, source):
    """A clusters table that lacks a document says nothing of whether it is a duplicate."""
    short = read_table(source.clusters).slice(0, 59)
    other = source._replace(clusters=publish(tmp_path / "short", short))
    with pytest.raises(UserError, match="no duplicate cluster"):
        corpus(tmp_path / "corpus", other)


@pytest.mark.parametrize("options", [{}, {"max_texts": 17, "seed": 4}, {"max_texts": 1, "max_characters": 9}])
def test_exchanges_give_the_rows_of_one_table(tmp_path, monkeypatch, source, options):
    """Two sources in files of any cut, many buckets and parts: equal rows in equal order, and an equal ledger."""
    again = pa.Table.from_pylist(
        [{**row, "doc_id": "e" + row["doc_id"]} for row in read_table(source.rows).to_pylist()]
    )
    known = read_table(source.clusters)
    for name in ("doc_id", "cluster_id"):
        renamed = pa.array(["e" + value for value in known[name].to_pylist()])
        known = known.set_column(known.schema.get_field_index(name), name, renamed)
    rows, clusters = publish(tmp_path / "rows-2", again, 5), publish(tmp_path / "clusters-2", known, 3)
    sources = {"text": source, "code": Source(rows, clusters, "doc_id", ("text",))}
    asked = CorpusOptions(**options)
    whole = make_corpus(str(tmp_path / "whole"), sources, split=SPLIT, options=asked)
    monkeypatch.setattr(rooms, "ONE_TABLE", 0)
    for rows_of_part, bucket in ((50_000, 1 << 20), (9, 13)):
        monkeypatch.setattr(rooms, "ROWS_PER_PART", rows_of_part)
        monkeypatch.setattr(exchange, "BUCKET_ROWS", bucket)
        path = tmp_path / f"made-{bucket}"
        made = make_corpus(str(path), sources, split=SPLIT, options=asked)
        assert read_table(str(path)).equals(read_table(str(tmp_path / "whole")))
        assert (made.ledger, made.rows, made.columns) == (whole.ledger, whole.rows, whole.columns)
        assert len(made.files) >= min(whole.rows // 9, 2) or rows_of_part > 9
        assert not path.with_suffix(".phases").exists()
