"""`cpt-ray compare`: suites of several models on the same queries, as a table and as a page that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.artifacts import Ledger, parquet, read_table
from cpt_ray.evaluate.compare import names_of
from cpt_ray.evaluate.suite import QUERIES, SUITE, by_query, figure, measure
from cpt_ray.evaluate.tasks import Task, digest
from cpt_ray.evaluate.tasks.beir import Beir
from cpt_ray.evaluate.tasks.classification import Classification
from cpt_ray.evaluate.tasks.similarity import Similarity
from cpt_ray.ranking import Floats
from pipelines import cli, compare
from tests.evaluate.conftest import bag_of_words
from tests.evaluate.test_report import page_of

WORDS = ["harbour", "lantern", "orchard", "copper", "violin", "glacier", "saddle", "pepper", "compass", "thunder"]


def small_data(root: Path) -> list[Task]:
    """Forty queries, forty classified texts, forty pairs of sentences."""
    documents = [f"{WORDS[i % 10]} {WORDS[i // 10]} number{i} <b>&" for i in range(40)]
    (root / "search" / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(documents)]
    (root / "search" / "corpus.jsonl").write_text("".join(rows))
    asked = [json.dumps({"_id": f"q{i}", "text": f"{WORDS[i % 10]} number{i}"}) + "\n" for i in range(40)]
    (root / "search" / "queries.jsonl").write_text("".join(asked))
    judged = [f"q{i}\td{i}\t1\n" for i in range(40)]
    (root / "search" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    (root / "class").mkdir()
    lines = [f"{i % 2}\t{WORDS[i % 10]} {WORDS[(3 * i) % 10]}\n" for i in range(40)]
    for name in ("train", "test"):
        (root / "class" / f"{name}.tsv").write_text("label\ttext\n" + "".join(lines))
    pairs = [f"{i % 6}\t{WORDS[i % 10]}\t{' '.join(WORDS[: i % 6])} {WORDS[i % 10]}\n" for i in range(40)]
    (root / "alike.tsv").write_text("score\tsentence1\tsentence2\n" + "".join(pairs))
    return [
        Beir(folder=str(root / "search")),
        Classification(folder=str(root / "class")),
        Similarity(file=str(root / "alike.tsv")),
    ]


def noisy(texts: list[str], side: str = "x") -> Floats:
    """The same words, half drowned in noise that depends on the texts."""
    rng = np.random.default_rng(sum(map(len, texts)))
    vectors = bag_of_words(texts, side) + 0.25 * rng.standard_normal((len(texts), 256)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def publish(path: Path, tasks: list[Task], **models: object) -> str:
    """A suite as the pipeline publishes it."""
    inputs = {task.title: digest(task) for task in tasks} | {"model": path.parent.name}
    with SUITE.build(str(path), params={}, inputs=inputs) as work:
        rows = measure(tasks, models)  # type: ignore[arg-type]
        table = by_query(tasks, rows)
        parquet.write_table(f"{work.path}/part-00000.parquet", table)
        ledger = Ledger.of("tasks", read=len(tasks), kept=len(tasks))
        work.publish(ledger, rows=table.num_rows, schema=QUERIES, extra={"rows": rows})
    return str(path)


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("suites")
    tasks = small_data(root / "data")
    return publish(root / "a" / "x_suite", tasks, model=noisy), publish(
        root / "b" / "x_suite", tasks, model=bag_of_words
    )


def test_every_row_is_sure_to_its_interval_and_its_queries_give_it_again(suites: tuple[str, str]) -> None:
    """What is published of the queries is what the row was computed of."""
    found = compare.read("a", suites[0])
    assert len(found.rows) == 3 * 3 + 4  # model, TF-IDF, word vectors; BM25 of the search, chance of each
    for row in found.rows:
        if row["method"] == "chance" and row["kind"] != "beir":
            assert "low" not in row  # a number that is known, not measured
            continue
        assert row["low"] <= row["value"] <= row["high"]
        assert row["queries"] == 40
        assert figure(found.queries, row["task"], row["method"]) == pytest.approx(row["value"], abs=1e-12)
    search = [row for row in read_table(suites[1]).to_pylist() if (row["task"], row["method"]) == ("search", "bm25")]
    assert search[7]["text"] == "pepper number7"
    assert search[7]["right"] == search[7]["said"] == "pepper harbour number7 <b>&"


def test_two_models_in_a_table_and_on_a_page(
    suites: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bold where p is small; the texts of what is won and lost escaped; nothing from outside."""
    at = str(tmp_path / "c.html")
    assert cli.main(["compare", *suites, f"page={at}", "examples=2"]) == 0
    printed = capsys.readouterr().out
    assert "p (Holm)" in printed
    assert at in printed.replace("\n", "")
    page = page_of(Path(at).read_text())
    for wanted in ("a / b", "Won by b", "better", " <b>&", "ndcg@10", "spearman"):
        assert wanted in page.text, wanted
    assert max(page.ids.values()) == 1
    for reference in page.references:
        assert reference.startswith("data:") or reference.strip("\"'").removeprefix("#") in page.ids, reference
    assert "http" not in page.text
    found = compare.run(compare.PipelineOptions(suites=suites, page=at, examples=2))
    (search, *_) = found.tasks
    (one,) = search.against
    assert one.paired.difference == pytest.approx(search.rows["b"]["value"] - search.rows["a"]["value"])
    assert one.verdict == "better"
    assert [query.by for query in one.wins] == sorted((query.by for query in one.wins), reverse=True)
    assert len(one.wins) == 2
    assert one.wins[0].second == one.wins[0].right != one.wins[0].first


def test_one_suite_compares_its_methods(suites: tuple[str, str], tmp_path: Path) -> None:
    found = compare.run(compare.PipelineOptions(suites=suites[:1], page=str(tmp_path / "c.html")))
    assert list(found.names) == ["model", "tfidf-svd", "word-vectors", "bm25"]
    assert [one.name for one in found.tasks[0].against] == ["tfidf-svd", "word-vectors", "bm25"]
    assert [one.name for one in found.tasks[1].against] == ["tfidf-svd", "word-vectors"]


def test_other_data_is_not_compared(
    suites: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task over other data, or that one lacks, is named and left out; where nothing is left it is an error."""
    tasks = small_data(tmp_path / "data")
    (tmp_path / "data" / "alike.tsv").write_text("score\tsentence1\tsentence2\n1\ta\tb\n2\ta\ta\n3\tb\tb\n")
    other = publish(tmp_path / "c" / "x_suite", tasks[1:], model=noisy)
    found = compare.run(
        compare.PipelineOptions(suites=(suites[0], other), page=str(tmp_path / "c.html"), names=("p", "q"))
    )
    assert [task.title for task in found.tasks] == ["class"]
    assert found.left_out == {"search": "not measured for q", "data alike": "measured on other data"}
    only = publish(tmp_path / "d" / "x_suite", tasks[2:], model=noisy)
    capsys.readouterr()
    for words, wanted in [
        ([suites[0], only], "nothing to compare"),
        ([suites[0], suites[0]], "the same suite twice"),
        ([suites[0], str(tmp_path)], "no finished artifact"),
        ([suites[0], "names=[a,b]"], "2 names for 1 folders"),
        ([], "suites"),
    ]:
        assert cli.main(["compare", *words]) == 2
        assert wanted in capsys.readouterr().err


def test_names_are_what_differs() -> None:
    assert names_of(["/o/a/x_suite", "/o/b/x_suite/"]) == ["a", "b"]
    assert names_of(["one_suite", "two_suite", "./three"]) == ["one_suite", "two_suite", "three"]
    assert names_of(["/o/a/m/s", "/p/a/n/s", "/q/b/n/s"]) == ["a/m", "a/n", "b/n"]
    assert names_of(["out/x_suite"]) == ["x_suite"]
    assert names_of(["."]) == [Path.cwd().name]
    assert names_of([".", "../other"]) == [Path.cwd().name, "other"]
    assert names_of(["/"]) == ["/"]
