"""A suite: every kind of task with models and baselines; a new kind is one file and nothing else."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import cpt_ray.evaluate.tasks
from cpt_ray.errors import UserError
from cpt_ray.evaluate.baselines import tfidf_svd, word_vectors
from cpt_ray.evaluate.probe import vote
from cpt_ray.evaluate.suite import average, measure
from cpt_ray.evaluate.suite_options import SuiteOptions
from cpt_ray.evaluate.tasks import digest
from cpt_ray.evaluate.tasks.beir import Beir
from cpt_ray.evaluate.tasks.classification import Classification
from cpt_ray.evaluate.tasks.sentiment import Sentiment
from cpt_ray.evaluate.tasks.similarity import Similarity
from cpt_ray.evaluate.watch import Watch
from cpt_ray.kinds import kinds, one_of
from cpt_ray.options import Options
from pipelines import cli, config
from pipelines.evaluate import make_suite, print_suite
from pipelines.options import evaluate

LENGTH = '''
"""How well the norm of a sum of words tells long texts."""
from __future__ import annotations
from pathlib import Path
from typing import ClassVar, Literal
from cpt_ray.options import Options


class Length(Options):
    """A kind that a user has added."""

    metric: ClassVar[str] = "share"
    kind: Literal["length"] = "length"
    file: str

    @property
    def title(self):
        return Path(self.file).stem

    def files(self):
        return [Path(self.file)]

    def texts(self):
        return Path(self.file).read_text().splitlines()

    def scores(self, embed):
        return {"share": float(len(embed(self.texts(), "x")) / len(self.texts()))}

    def fixed(self):
        return {}
'''


def _beir(folder: Path, corpus: list[str]) -> Beir:
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(corpus)]
    (folder / "corpus.jsonl").write_text("".join(rows))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "harbour wall"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td0\t1\n")
    return Beir(folder=str(folder))


def test_copies_of_an_answer_answer_too(tmp_path: Path, embed) -> None:
    """With duplicates in the corpus both figures stand in the row; without, there is one."""
    copied = _beir(tmp_path / "a", ["the harbour wall", "the harbour wall", "a ship at sea"])
    scores = copied.scores(embed)
    assert scores["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["merged_mrr"] == 1.0
    assert copied.fixed()["chance"]["merged_mrr"] == pytest.approx(3 / 4)
    assert "merged_mrr" not in _beir(tmp_path / "b", ["the harbour wall", "a ship at sea"]).scores(embed)


def test_votes_are_those_of_the_nearest(embed) -> None:
    """Against a walk over all similarities, also where fewer rows than k are known."""
    rng = np.random.default_rng(0)
    known, queries = rng.standard_normal((300, 8)), rng.standard_normal((40, 8))
    labels = rng.integers(0, 3, 300)
    for k in (1, 7, 256, 1000):
        near = np.argsort(-(queries @ known.T), axis=1, kind="stable")[:, :k]
        expected = [np.bincount(labels[row], minlength=3).argmax() for row in near]
        np.testing.assert_array_equal(vote(queries, known, labels, k), expected)


def test_tfidf_with_svd_is_normalised_and_meaningful() -> None:
    texts = ["parse a date", "parse an ISO date", "open the harbour gate", "close the harbour gate"]
    vectors = tfidf_svd(texts)(texts, "x")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.3 > abs(vectors[0] @ vectors[2])


def test_word_vectors_are_of_the_company_that_words_keep() -> None:
    """`car` and `lorry` never stand in one text, and are near each other, since what stands beside them is the same; a
    text is the mean of its words, whatever their order; one without a known word is a zero vector."""
    vehicles = [f"the {name} drives along the {way}" for name in ("car", "lorry") for way in ("road", "street", "lane")]
    fruits = [
        f"she eats a ripe {name} with {more}" for name in ("apple", "pear") for more in ("cheese", "bread", "wine")
    ]
    embed = word_vectors(vehicles + fruits, dimension=4)
    car, lorry, pear, unknown = embed(["car", "lorry", "pear", "zebra"], "x")
    assert car @ lorry > 0.9 > 0.5 > abs(car @ pear)
    assert not unknown.any()
    both = embed(["car pear", "pear car"], "y")
    np.testing.assert_array_equal(both[0], both[1])
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)


def test_a_graph_of_neighbours_is_measured_beside_exact_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it finds is scored as exact search scores it, so that with a graph that looks at everything the figures are equal;
    its own recall stands beside them."""
    rng = np.random.default_rng(0)
    vectors = {side: rng.standard_normal((300, 16)).astype(np.float32) for side in "xy"}
    vectors = {side: rows / np.linalg.norm(rows, axis=1, keepdims=True) for side, rows in vectors.items()}
    folder = tmp_path / "toy"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        rows = [json.dumps({"_id": str(i), "text": str(i)}) + "\n" for i in range(300)]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    judged = "".join(f"{i}\t{(i * 7) % 300}\t1\n" for i in range(40))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)

    def embed(texts: list[str], side: str) -> np.ndarray:
        return vectors[side][[int(text) for text in texts]]

    whole = Beir(folder=str(folder), graph=400).scores(embed)
    assert whole["graph_found_at_10"] == 1.0
    for name in ("ndcg_at_10", "recall_at_10"):
        assert whole[f"graph_{name}"] == pytest.approx(whole[name])
    assert not any(name.startswith("graph") for name in Beir(folder=str(folder)).scores(embed))
    rows = measure([Beir(folder=str(folder), graph=400)], {"model": embed})
    print_suite(rows)
    assert "graph" in capsys.readouterr().out


def test_texts_are_embedded_once_for_all_variants(tmp_path: Path) -> None:
    """A corpus with duplicates is searched twice, and each of its texts embedded once."""
    asked: list[str] = []

    def embed(texts: list[str], side: str) -> np.ndarray:
        asked.extend(f"{side} {text}" for text in texts)
        return np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]

    copied = _beir(tmp_path / "a", ["the harbour wall", "the harbour wall", "a ship at sea"])
    assert "merged_mrr" in copied.scores(embed)
    assert len(asked) == len(set(asked)) == 3


def test_all_data_is_read_before_anything_is_measured(tmp_path: Path) -> None:
    """The last file's last line ends no work of hours."""
    (tmp_path / "b.tsv").write_text("score\tsentence1\tsentence2\n1\ta\tb\nmuch\ta\tb\n")

    def embed(texts: list[str], side: str) -> np.ndarray:
        raise AssertionError("this is dear")

    with pytest.raises(UserError, match=r"b\.tsv:3"):
        measure([_beir(tmp_path / "a", ["the wall", "a ship"]), Similarity(file=str(tmp_path / "b.tsv"))], {"m": embed})


def test_every_kind_on_real_data(eval_data: Path, embed) -> None:
    """Rows for models and baselines, each with the digest of its data; averages never mix kinds."""
    tasks = [
        Beir(folder=str(eval_data / "search" / "xquad-en")),
        Similarity(file=str(eval_data / "similarity" / "STSB" / "dev.tsv")),
        Sentiment(folder=str(eval_data / "classification" / "SST2")),
    ]
    rows = measure(tasks, {"model": embed})
    assert {(row["kind"], row["method"]) for row in rows} >= {
        *(("beir", method) for method in ("model", "tfidf_svd", "word_vectors", "bm25", "chance")),
        ("similarity", "tfidf_svd"),
        ("sentiment", "chance"),
    }
    assert len({row["data"] for row in rows}) == 3
    assert all(row["value"] == row["scores"][row["metric"]] for row in rows)
    means = average(rows)
    assert means["beir"]["bm25"] > means["beir"]["model"] > means["beir"]["chance"]
    assert set(means["similarity"]) == {"model", "tfidf_svd", "word_vectors", "chance"}


def test_cross_validation_or_a_split_by_what_the_folder_has(tmp_path: Path) -> None:
    for name in ("train", "test", "dev"):
        (tmp_path / f"{name}.tsv").write_text("label\ttext\n0\ta\n1\tb\n1\tc\n")
    task = Classification(folder=str(tmp_path))
    assert [path.name for path in task.files()] == ["train.tsv", "test.tsv", "dev.tsv"]
    assert task.fixed()["chance"]["accuracy"] == pytest.approx(2 / 3)
    (tmp_path / "all.tsv").write_text("label\ttext\n0\ta\n")
    assert [path.name for path in task.files()] == ["all.tsv"]


def test_missing_data_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file") as caught:
        digest(Similarity(file=str(tmp_path / "STSB" / "test.tsv")))
    assert caught.value.where == str(tmp_path / "STSB" / "test.tsv")


def test_what_is_not_there_is_left_out_where_that_is_asked_for(
    tmp_path: Path, model_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named and counted; of a list of one's own it is an error."""
    there = _beir(tmp_path / "toy", ["the harbour wall", "a ship at sea"])
    suite = SuiteOptions(tasks=(there, Similarity(file=str(tmp_path / "STSB" / "test.tsv"))), absent="skip")
    with caplog.at_level("INFO"):
        made = make_suite(str(tmp_path / "suite"), suite, model_folder, None, precision="fp32")
    assert {row["task"] for row in made.extra["rows"]} == {"toy"}
    assert made.ledger["tasks"] == {"read": 2, "kept": 1, "dropped": {"absent": 1}}
    assert "no data of STSB test" in caplog.text
    with pytest.raises(UserError, match="STSB test has no such file"):
        make_suite(str(tmp_path / "other"), suite.model_copy(update={"absent": "error"}), model_folder, None)
    with pytest.raises(UserError, match="no data of this suite"):
        make_suite(str(tmp_path / "none"), suite.model_copy(update={"tasks": suite.tasks[1:]}), model_folder, None)


def test_a_watch_finds_its_data_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embed
) -> None:
    """Its paths are those of whoever wrote them: a worker of Ray works in a folder of its own."""
    (tmp_path / "elsewhere").mkdir()
    _beir(tmp_path / "data" / "toy", ["the harbour wall", "a ship at sea"])
    (tmp_path / "data" / "dev.tsv").write_text("score\tsentence1\tsentence2\n1\ta ship\ta boat\n2\ta ship\ta ship\n")
    monkeypatch.chdir(tmp_path)
    tasks = (
        Beir(folder="data/toy"),
        Similarity(file="data/dev.tsv"),
        Similarity(file=str(tmp_path / "data" / "dev.tsv")),
    )
    watch = Watch(tasks)
    assert list(watch.names) == ["toy_ndcg_at_10", "data_dev_spearman", "data_dev_spearman_2"]
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = pickle.loads(pickle.dumps(watch))(embed)
    assert found == pytest.approx(dict.fromkeys(watch.names, 1.0))


def test_a_new_task_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embed) -> None:
    """Put into the folder it is a choice, told apart by `kind`, typed, and measured like all others."""
    (tmp_path / "length.py").write_text(LENGTH)
    (tmp_path / "words.tsv").write_text("one\ntwo\n")
    monkeypatch.setattr(cpt_ray.evaluate.tasks, "__path__", [*cpt_ray.evaluate.tasks.__path__, str(tmp_path)])
    assert set(kinds("cpt_ray.evaluate.tasks")) >= {"beir", "length"}

    class Chosen(Options):
        task: one_of("cpt_ray.evaluate.tasks")  # type: ignore[valid-type]

    chosen = config.validate(Chosen, {"task": {"kind": "length", "file": str(tmp_path / "words.tsv")}})
    (row, *_) = measure([chosen.task], {"model": embed})
    assert (row["task"], row["kind"], row["value"]) == ("words", "length", 1.0)
    with pytest.raises(UserError, match="'beir'"):
        config.validate(Chosen, {"task": {"kind": "nothing"}})


def test_the_suites_of_conf_are_of_known_kinds() -> None:
    """Each of them composes; `data` is put into their paths."""
    for suite in config.choices("evaluate")["suite"]:
        found = config.load(
            "evaluate", evaluate.PipelineOptions, [f"suite={suite}", "data=/labelled", "trained=/model"]
        )
        assert found.suite.tasks
        assert all(str(path).startswith("/labelled/") for task in found.suite.tasks for path in task.files())


def test_help_lists_the_kinds_with_their_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--help"]) == 0
    shown = capsys.readouterr().out
    for kind in kinds("cpt_ray.evaluate.tasks"):
        assert f"kind: {kind}" in shown
    assert "qrels file; its queries alone are searched" in shown


def test_threads_that_wait_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything that has threads is loaded, and only where the user has not said otherwise."""
    monkeypatch.setenv("KMP_BLOCKTIME", "7")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    cli.share_the_machine()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["KMP_BLOCKTIME"] == "7"
