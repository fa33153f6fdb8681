"""From documents to the clusters table: what is removed, why, and what the answer may not depend on."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.artifacts import build, parquet, parts, read_manifest, read_table
from cpt_ray.dedup import cluster, components, near, shuffle, verify
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.explain import explain
from cpt_ray.dedup.options import DedupOptions, Preference
from cpt_ray.errors import UserError
from tests.dedup.dedup_corpus import corpus, jaccard, text_of


def write(path: Path, docs: dict[str, str], files: int = 1, **columns: list[object]) -> list[str]:
    path.mkdir(parents=True, exist_ok=True)
    table = pa.table({"doc_id": list(docs), "text": list(docs.values()), **columns})
    size = -(-table.num_rows // files)
    names = []
    for n in range(files):
        names.append(str(path / f"docs-{n}.parquet"))
        parquet.write_table(names[-1], table.slice(n * size, size))
    return names


def run(tmp_path: Path, docs: dict[str, str], name: str = "clusters", files: int = 1, **options: object) -> list[dict]:
    out = str(tmp_path / name)
    deduplicate(out, write(tmp_path / f"{name}-docs", docs, files), options=DedupOptions(**options))
    return read_table(out).to_pylist()


def test_removals_are_the_planted_ones_and_carry_their_evidence(tmp_path: Path) -> None:
    """Exact and light copies go, heavy ones stay, and the similarity on the row is the exact Jaccard."""
    docs = corpus()
    rows = {row["doc_id"]: row for row in run(tmp_path, docs)}
    assert sorted(rows) == sorted(docs)
    for name, row in rows.items():
        stem, kind = name.split("-")
        if kind in ("heavy",) or stem == "odd":
            assert row["kept"], name
        assert row["cluster_size"] == sum(other["cluster_id"] == row["cluster_id"] for other in rows.values())
        if row["kept"]:
            assert row["matched_id"] is row["similarity"] is row["layer"] is None
            continue
        keeper = rows[row["matched_id"]]
        assert keeper["kept"]
        assert (
            keeper["cluster_id"]
            == row["cluster_id"]
            == min(n for n in docs if rows[n]["cluster_id"] == row["cluster_id"])
        )
        assert row["similarity"] == pytest.approx(jaccard(docs[name], docs[row["matched_id"]]), abs=1e-6)
        assert row["similarity"] >= 0.8
    for n in range(60):
        family = [rows[f"{n:03d}-{kind}"] for kind in ("base", "case", "light")]
        assert sum(row["kept"] for row in family) == 1
        # `light` is the longest, so the rule (high length) keeps it; the others are removed for it.
        assert rows[f"{n:03d}-light"]["kept"]


def test_ledger_balances_and_names_the_reasons(tmp_path: Path) -> None:
    docs = corpus(originals=5)
    run(tmp_path, docs)
    manifest = read_manifest(str(tmp_path / "clusters"))
    count = manifest.balance.units["documents"]
    assert count.read == len(docs) == count.kept + sum(count.dropped.values())
    assert set(count.dropped) == {"near_duplicate"}
    assert manifest.extra["without_words"] == 2
    assert (manifest.extra["bands"], manifest.extra["rows"]) == (14, 9)


def test_the_answer_depends_on_neither_order_nor_files(tmp_path: Path) -> None:
    """Shuffled rows in other files: the published table is equal byte by byte."""
    docs = corpus(seed=1)
    names = list(docs)
    random.Random(5).shuffle(names)
    run(tmp_path, docs)
    run(tmp_path, {name: docs[name] for name in names}, "shuffled", files=4)
    one, other = (Path(parts(str(tmp_path / name))[0]).read_bytes() for name in ("clusters", "shuffled"))
    assert one == other


def test_grouping_here_or_by_tasks_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every bound at its least, the keys, the pairs and the components go the way of the largest corpora."""
    docs = corpus(seed=4)
    run(tmp_path, docs, files=3)
    monkeypatch.setattr(near, "INLINE_KEYS", 0)
    monkeypatch.setattr(near, "INLINE_PAIRS", 0)
    monkeypatch.setattr(shuffle, "KEYS_PER_TASK", 70)
    monkeypatch.setattr(verify, "PAIRS_PER_SHARD", 30)
    monkeypatch.setattr(components, "SCIPY_EDGES", 0)
    run(tmp_path, docs, "tasks", files=3)
    assert read_manifest(str(tmp_path / "tasks.phases" / "buckets")).params["shares"] == 3
    assert read_manifest(str(tmp_path / "tasks.phases" / "components" / "round-00")).rows
    one, other = (Path(parts(str(tmp_path / name))[0]).read_bytes() for name in ("clusters", "tasks"))
    assert one == other


@pytest.mark.slow
def test_the_answer_does_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes with 1, 2 and 4 workers of Ray, and without Ray."""
    import ray

    docs = corpus(seed=6)
    monkeypatch.setattr(near, "INLINE_KEYS", 0)
    monkeypatch.setattr(near, "INLINE_PAIRS", 0)
    monkeypatch.setattr(components, "SCIPY_EDGES", 0)
    monkeypatch.setattr(components, "EDGES_PER_PART", 50)
    run(tmp_path, docs, files=5)
    alone = Path(parts(str(tmp_path / "clusters"))[0]).read_bytes()
    for workers in (1, 2, 4):
        ray.init(
            "local", num_cpus=workers, include_dashboard=False, logging_level="ERROR", object_store_memory=100 << 20
        )
        try:
            run(tmp_path, docs, f"workers-{workers}", files=5)
        finally:
            ray.shutdown()
        assert Path(parts(str(tmp_path / f"workers-{workers}"))[0]).read_bytes() == alone


def test_parts_of_the_clusters_are_the_rows_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted by id over all parts; what is near and what is exact, and documents without words, among them."""
    docs = {**corpus(seed=7), "blank": " ", "none": ""}
    want = run(tmp_path, docs, "one")
    monkeypatch.setattr(cluster, "DOCUMENTS_PER_PART", 17)
    assert run(tmp_path, docs, "many") == want
    assert len(parts(str(tmp_path / "many"))) == -(-len(want) // 17)
    one, many = (read_manifest(str(tmp_path / name)) for name in ("one", "many"))
    assert (many.ledger, many.extra) == (one.ledger, one.extra)


def test_chains_are_broken_against_the_survivor(tmp_path: Path) -> None:
    """A ~ B ~ C but A !~ C: B goes for the survivor, C stays although it is in the component."""
    rng = random.Random(2)
    a = text_of(rng, 200)
    b = [*a[:180], *text_of(rng, 20)]
    c = [*text_of(rng, 20), *b[20:]]
    docs = {name: " ".join(units) for name, units in (("a", a), ("b", b), ("c", c))}
    assert jaccard(docs["a"], docs["b"]) > 0.7 < jaccard(docs["b"], docs["c"])
    assert jaccard(docs["a"], docs["c"]) < 0.7
    quality = {"a": 3.0, "b": 2.0, "c": 1.0}
    for keep_first, expected in (("a", {"a", "c"}), ("b", {"b"})):
        quality["b"] = 4.0 if keep_first == "b" else 2.0
        names = write(tmp_path / keep_first, docs, quality=[quality[name] for name in docs])
        options = DedupOptions(threshold=0.7, bands=64, rows=2, survivors=(Preference(column="quality"),))
        out = str(tmp_path / f"out-{keep_first}")
        deduplicate(out, names, options=options)
        rows = read_table(out).to_pylist()
        assert {row["doc_id"] for row in rows if row["kept"]} == expected
        assert {row["cluster_id"] for row in rows} == {"a"}


def test_the_survivor_rule_is_followed_in_order(tmp_path: Path) -> None:
    """quality first, then the earliest date; a missing value loses."""
    rng = random.Random(3)
    base = " ".join(text_of(rng))
    docs = {"none": base, "low": base + ".", "late": base + "!", "early": base + "?"}
    names = write(tmp_path / "d", docs, quality=[None, 0.1, 0.9, 0.9], day=[1, 1, 9, 3])
    options = DedupOptions(survivors=(Preference(column="quality"), Preference(column="day", prefer="low")))
    deduplicate(str(tmp_path / "c"), names, options=options)
    rows = {row["doc_id"]: row for row in read_table(str(tmp_path / "c")).to_pylist()}
    assert rows["early"]["kept"]
    assert {rows[n]["matched_id"] for n in ("none", "low", "late")} == {"early"}
    assert rows["late"]["rule"] == "high quality, low day, low content_hash, low id"


def test_repeated_ids_give_one_row_and_an_entry_in_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    parquet.write_table(str(path), pa.table({"doc_id": ["x", "x", "y"], "text": ["a b c", "a b c", "d e f"]}))
    manifest = deduplicate(str(tmp_path / "c"), [str(path)])
    assert manifest.rows == 2
    assert manifest.balance.units["documents"].dropped == {"repeated_id": 1}


def test_the_other_schemes_find_the_same_duplicates(tmp_path: Path) -> None:
    """One-permutation signatures and character shingles: other candidates, the same exact verdicts."""
    docs = corpus(seed=8, originals=20)
    kept = {row["doc_id"] for row in run(tmp_path, docs) if row["kept"]}
    by_one = run(tmp_path, docs, "one", scheme="one-permutation", bands=40, rows=3)
    assert {row["doc_id"] for row in by_one if row["kept"]} == kept
    by_character = run(tmp_path, docs, "characters", shingle="character", ngram=20)
    assert {row["doc_id"] for row in by_character if row["kept"]} == kept


def test_a_missing_id_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    parquet.write_table(str(path), pa.table({"doc_id": ["x", None, None], "text": ["a b", None, "c d"]}))
    manifest = deduplicate(str(tmp_path / "c"), [str(path)])
    assert [row["doc_id"] for row in read_table(str(tmp_path / "c")).to_pylist()] == ["", "x"]
    assert manifest.balance.units["documents"].dropped == {"repeated_id": 1}


def test_functions_are_served_by_the_same_call(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    code = "def f(a, b):\n    return [x for x in a if x in b and x not in (1, 2, 3)]\n"
    parquet.write_table(str(path), pa.table({"function_id": ["1", "2"], "code": [code, code + "\n\n"]}))
    deduplicate(str(tmp_path / "c"), [str(path)], id_column="function_id", text_column="code")
    assert sorted(row["kept"] for row in read_table(str(tmp_path / "c")).to_pylist()) == [False, True]


def test_explain_says_why(tmp_path: Path) -> None:
    run(tmp_path, corpus(originals=3))
    out = str(tmp_path / "clusters")
    removed = explain(out, "001-base")
    assert removed["matched_id"] == "001-light"
    assert "jaccard with 001-light is" in removed["sentence"]
    assert "14 bands equal" in removed["sentence"]
    assert explain(out, "001-light")["sentence"] == "001-light is kept, in a cluster of 3"
    with pytest.raises(UserError, match="no document 'nope'"):
        explain(out, "nope")


def test_explain_finds_the_members_in_other_parts(tmp_path: Path) -> None:
    """A clusters table cut into parts of one row is explained as the whole table is."""
    run(tmp_path, corpus(originals=3))
    whole, cut = str(tmp_path / "clusters"), str(tmp_path / "cut")
    table, manifest = read_table(whole), read_manifest(whole)
    with build(cut, step="clusters", version=1, params=manifest.params) as work:
        for n in range(table.num_rows):
            parquet.write_table(f"{work.path}/part-{n:05d}.parquet", table.slice(n, 1))
        work.publish(manifest.balance, rows=table.num_rows, schema=table.schema, extra=manifest.extra)
    assert explain(cut, "001-base")["members"] == 3
    for name in table["doc_id"].to_pylist():
        assert explain(cut, name) == explain(whole, name)


@pytest.mark.parametrize(
    ("options", "column", "message"),
    [
        (DedupOptions(survivors=(Preference(column="quality"),)), "text", "names a column 'quality'"),
        (DedupOptions(), "body", "no column 'body'"),
    ],
)
def test_a_missing_column_is_named(tmp_path: Path, options: DedupOptions, column: str, message: str) -> None:
    names = write(tmp_path / "d", {"a": "text"})
    with pytest.raises(UserError, match=message):
        deduplicate(str(tmp_path / "c"), names, text_column=column, options=options)


def test_what_a_later_file_lacks_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "first", {"a": "one text"})
    parquet.write_table(str(tmp_path / "later.parquet"), pa.table({"doc_id": ["b"]}))
    with pytest.raises(UserError, match=r"later\.parquet: no column 'text'"):
        deduplicate(str(tmp_path / "c"), [*first, str(tmp_path / "later.parquet")])


@pytest.mark.parametrize("ids", [[[1], [2]], [b"\xff", b"b"]])
def test_ids_that_are_no_text_are_refused(tmp_path: Path, ids: list[object]) -> None:
    parquet.write_table(str(tmp_path / "d.parquet"), pa.table({"doc_id": ids, "text": ["one", "two"]}))
    with pytest.raises(UserError, match=r"the column 'doc_id' of .* is not to be had as string"):
        deduplicate(str(tmp_path / "c"), [str(tmp_path / "d.parquet")])


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pa.array(["m", "z"]).dictionary_encode(), "b"),
        (pa.array([True, False]), "a"),
        (pa.array([[1], [2]]), None),
        (pa.array([1.0, 2.0], pa.float16()), None),
    ],
)
def test_a_rule_needs_an_order(tmp_path: Path, values: pa.Array, kept: str | None) -> None:
    names = write(tmp_path / "d", {"a": "one and the same text", "b": "one and the same text"}, rank=values)
    options = DedupOptions(survivors=(Preference(column="rank"),))
    if kept is None:
        with pytest.raises(UserError, match=r"'rank' of .* which has no order"):
            deduplicate(str(tmp_path / "c"), names, options=options)
        return
    deduplicate(str(tmp_path / "c"), names, options=options)
    assert [row["doc_id"] for row in read_table(str(tmp_path / "c")).to_pylist() if row["kept"]] == [kept]


def test_a_rule_names_a_column_once() -> None:
    with pytest.raises(ValueError, match="length is named twice"):
        DedupOptions(survivors=(Preference(column="length"), Preference(column="length", prefer="low")))


def test_impossible_bands_are_refused() -> None:
    with pytest.raises(ValueError, match="exceeds permutations"):
        DedupOptions(bands=20, rows=20)


def test_containment_removes_the_part_for_the_whole(tmp_path: Path) -> None:
    """A page that is contained in a longer one goes by containment and stays by Jaccard."""
    rng = random.Random(4)
    whole = text_of(rng, 300)
    docs = {"whole": " ".join(whole), "part": " ".join(whole[:150])}
    common = {"bands": 64, "rows": 2, "threshold": 0.9}
    by_jaccard = run(tmp_path, docs, "j", **common)
    by_containment = run(tmp_path, docs, "c", measure="containment", **common)
    assert all(row["kept"] for row in by_jaccard)
    assert {row["doc_id"]: row["kept"] for row in by_containment} == {"whole": True, "part": False}
