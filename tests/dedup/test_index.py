"""A new crawl against an index: the same answer as one run over everything, without the old text."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cpt_ray.artifacts import parquet, read_table
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.known import document_parts
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError
from tests.dedup.dedup_corpus import corpus, edited, text_of


def write(path: Path, docs: dict[str, str]) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(str(path), pa.table({"doc_id": list(docs), "text": list(docs.values())}), row_group_size=50)
    return [str(path)]


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["doc_id"]: row for row in read_table(str(out)).to_pylist()}


def crawls(seed: int) -> list[dict[str, str]]:
    """Three crawls of a corpus in which duplicates, copies and chains run across them."""
    rng = random.Random(seed)
    docs = corpus(seed=seed, originals=40)
    chain = text_of(rng, 200)
    for n in range(12):
        docs[f"chain-{n}"] = " ".join(chain)
        chain = edited(rng, chain, 3)
    names = list(docs)
    rng.shuffle(names)
    return [{name: docs[name] for name in names[n::3]} for n in range(3)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_crawl_by_crawl_equals_one_go(tmp_path: Path, seed: int) -> None:
    """After every crawl, old rows updated by new ones are the clusters of one run over all documents so far."""
    state: dict[str, dict[str, Any]] = {}
    everything: dict[str, str] = {}
    index: str | None = None
    for n, crawl in enumerate(crawls(seed)):
        everything |= crawl
        names = write(tmp_path / f"crawl-{n}.parquet", crawl)
        out = tmp_path / f"clusters-{n}"
        deduplicate(str(out), names, index=index)
        state |= rows(out)
        write_index(str(tmp_path / f"index-{n}"), str(out), names, previous=index)
        index = str(tmp_path / f"index-{n}")
        deduplicate(str(tmp_path / f"whole-{n}"), write(tmp_path / f"whole-{n}.parquet", everything))
        assert state == rows(tmp_path / f"whole-{n}")
    assert read_table(index, ["doc_id"]).num_rows > 0


@pytest.mark.parametrize("options", [DedupOptions(), DedupOptions(measure="containment", sample=1)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_several_indexes_in_one_go(tmp_path: Path, seed: int, options: DedupOptions) -> None:
    """Two crawls that know nothing of each other, a third one against both, a fourth one against the index of all: every row
    is that of one run over everything; ids that both indexes have are one document."""
    first, second, both = crawls(seed)
    names = list(both)
    third, fourth = ({name: both[name] for name in names[n::2]} for n in range(2))
    second |= {name: first[name] for name in list(first)[:3]}
    crawled = [write(tmp_path / f"crawl-{n}.parquet", docs) for n, docs in enumerate((first, second, third, fourth))]
    indexes = [str(tmp_path / f"index-{n}") for n in range(4)]
    everything: dict[str, str] = first | second
    for n in range(2):
        deduplicate(str(tmp_path / f"out-{n}"), crawled[n], options=options)
        write_index(indexes[n], str(tmp_path / f"out-{n}"), crawled[n])
    for n, before in ((2, indexes[:2]), (3, [indexes[2]])):
        everything |= (third, fourth)[n - 2]
        deduplicate(str(tmp_path / f"out-{n}"), crawled[n], options=options, index=before)
        write_index(indexes[n], str(tmp_path / f"out-{n}"), crawled[n], previous=before)
        whole = write(tmp_path / f"whole-{n}.parquet", everything)
        deduplicate(str(tmp_path / f"whole-{n}"), whole, options=options)
        found, oracle = rows(tmp_path / f"out-{n}"), rows(tmp_path / f"whole-{n}")
        assert set((third, fourth)[n - 2]) <= set(found)
        assert found == {name: oracle[name] for name in found}
        ids = parquet.read_table(document_parts(indexes[n]), ["doc_id"])["doc_id"].to_pylist()
        assert sorted(ids) == sorted(everything)
    assert any(row["matched_id"] in first for row in found.values())
    assert any(row["matched_id"] in second for row in found.values())


@pytest.mark.parametrize("options", [{}, {"measure": "containment"}, {"near": False}])
@pytest.mark.parametrize("without", [{}, {"blank": " ", "signs": "!?"}])
def test_an_index_may_hold_nothing_to_compare(tmp_path: Path, without: dict[str, str], options: dict[str, Any]) -> None:
    """No documents, or none with words: first, and after others."""
    crawls = [
        without,
        {"a": "one and the same text", "b": "one and the same text"},
        without,
        {"c": "one and the same text"},
    ]
    index: str | None = None
    for n, crawl in enumerate(crawls):
        names, out = write(tmp_path / f"crawl-{n}.parquet", crawl), str(tmp_path / f"clusters-{n}")
        deduplicate(out, names, options=DedupOptions(**options), index=index)
        write_index(str(tmp_path / f"index-{n}"), out, names, previous=index)
        index = str(tmp_path / f"index-{n}")
    assert rows(tmp_path / "clusters-3")["c"]["matched_id"] == "a"
    held = pa.concat_tables(parquet.read_table(name, ["doc_id", "set_part"]) for name in document_parts(index))
    assert sorted(held["doc_id"].to_pylist()) == sorted({"a", "b", "c", *without})


def test_old_text_is_not_read_and_the_old_document_is_named(tmp_path: Path) -> None:
    """With the old documents and phases gone, a new copy is removed for the old document, and only that unit is read."""
    docs = corpus(originals=30)
    old = write(tmp_path / "old" / "docs.parquet", docs)
    deduplicate(str(tmp_path / "old" / "clusters"), old)
    write_index(str(tmp_path / "index"), str(tmp_path / "old" / "clusters"), old)
    shutil.rmtree(tmp_path / "old")
    new = {"new-copy": docs["003-light"], "new-other": " ".join(text_of(random.Random(99)))}
    manifest = deduplicate(str(tmp_path / "new"), write(tmp_path / "new.parquet", new), index=str(tmp_path / "index"))
    found = rows(tmp_path / "new")
    assert found["new-copy"]["matched_id"] == "003-light"
    assert found["new-other"]["kept"]
    assert manifest.rows < 10


def test_an_index_can_be_written_again_from_the_same_phases(tmp_path: Path) -> None:
    """Another run over the same documents, then a second index: nothing relies on what the first one cleared away."""
    docs = corpus(originals=6)
    names = write(tmp_path / "d.parquet", docs)
    for n, options in enumerate((DedupOptions(), DedupOptions(threshold=0.5, bands=14, rows=9), DedupOptions())):
        deduplicate(str(tmp_path / "c"), names, options=options)
        write_index(str(tmp_path / f"index-{n}"), str(tmp_path / "c"), names)
    one, other = ([path.read_bytes() for path in sorted((tmp_path / f"index-{n}").rglob("part*"))] for n in (0, 2))
    assert one == other


def test_a_new_document_may_take_over_from_an_old_one(tmp_path: Path) -> None:
    """By the rule the longer document survives: the old one's row says that it is now removed, for the new one."""
    units = text_of(random.Random(5))
    old = write(tmp_path / "old.parquet", {"old": " ".join(units)})
    deduplicate(str(tmp_path / "a"), old)
    write_index(str(tmp_path / "index"), str(tmp_path / "a"), old)
    new = write(tmp_path / "new.parquet", {"new": " ".join([*units, "and", "more"])})
    deduplicate(str(tmp_path / "b"), new, index=str(tmp_path / "index"))
    assert rows(tmp_path / "b")["old"]["matched_id"] == "new"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DedupOptions(seed=2), "seed=1 cannot be combined with seed=2"),
        (DedupOptions(ngram=3), "ngram=5 cannot be combined with ngram=3"),
        (DedupOptions(bands=8, rows=16), "bands=14 cannot be combined with bands=8"),
    ],
)
def test_other_parameters_are_refused(tmp_path: Path, options: DedupOptions, message: str) -> None:
    """Signatures of different making never meet: the error names both values."""
    names = write(tmp_path / "d.parquet", {"a": "some words"})
    deduplicate(str(tmp_path / "a"), names)
    write_index(str(tmp_path / "index"), str(tmp_path / "a"), names)
    with pytest.raises(UserError, match=message):
        deduplicate(str(tmp_path / "b"), names, options=options, index=str(tmp_path / "index"))
