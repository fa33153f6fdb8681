"""Labelled data as it is met outside: blank lines, other ends of lines, compressed, without a header, published by SentEval;
and what cannot be measured is said with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.errors import UserError
from cpt_ray.evaluate.baselines import tfidf_svd, word_vectors
from cpt_ray.evaluate.probe import cross_validated
from cpt_ray.evaluate.search import read_beir, search_beir
from cpt_ray.evaluate.similarity import read_similarity
from cpt_ray.evaluate.suite import measure
from cpt_ray.evaluate.tasks import Task
from cpt_ray.evaluate.tasks.beir import Beir
from cpt_ray.evaluate.tasks.classification import Classification
from cpt_ray.evaluate.tasks.coir import Coir
from cpt_ray.evaluate.tasks.sentiment import Sentiment
from cpt_ray.evaluate.tasks.similarity import Similarity
from cpt_ray.evaluate.tasks.sts import Year
from tests.evaluate.conftest import bag_of_words
from tests.evaluate.test_compare import small_data

HEADER = "query-id\tcorpus-id\tscore\n"


def _beir(root: Path, corpus: list[dict], queries: list[dict], qrels: str) -> str:
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "qrels" / "test.tsv").write_text(qrels)
    return str(root)


CORPUS = [{"_id": 1, "title": "Sea", "text": "a harbour"}, {"_id": 2, "title": "", "text": "an orchard"}]
QUERIES = [{"_id": 7, "text": "ships"}, {"_id": 8, "text": "apples"}]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n") + "\n  \n",
        lambda text: "\ufeff" + text,
        lambda text: text.removesuffix("\n"),
        gzip.compress,
    ],
    ids=["carriage returns", "blank lines", "mark", "no end", "compressed"],
)
def test_a_file_is_the_same_however_its_lines_end(tmp_path: Path, change) -> None:
    """Search, classes and similarity measure what they measured."""
    tasks = small_data(tmp_path)[:2]
    before = [row["scores"] for row in measure(tasks, {"model": bag_of_words})]
    for path in (path for task in tasks for path in task.files()):
        if change is gzip.compress:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        else:
            path.write_bytes(change(path.read_text()).encode())
    assert [row["scores"] for row in measure(tasks, {"model": bag_of_words})] == before
    alike = tmp_path / "alike.tsv"
    one = read_similarity(str(alike))
    changed = tmp_path / ("alike.tsv.gz" if change is gzip.compress else "other.tsv")
    text = alike.read_text()
    changed.write_bytes(gzip.compress(text.encode()) if change is gzip.compress else change(text).encode())
    assert read_similarity(str(changed)).items() == one.items()


@pytest.mark.parametrize(
    "qrels",
    [
        f"{HEADER}7\t1\t1\n8\t2\t2\n",
        "7\t1\t1\n8\t2\t2\n",
        "7 0 1 1\n8 0 2 2\n",
        "7\tQ0\t1\t1\n8\tQ0\t2\t2\n",
        "score\tcorpus_id\tquery_id\n1\t1\t7\n2\t2\t8\n",
        f"{HEADER}7\t1\t1\n7\t2\t0\n7\tgone\t-1\n8\t2\t2\n",
    ],
    ids=["BEIR", "no header", "TREC", "TREC by tabs", "other order", "judged of no use"],
)
def test_judgements_in_each_of_their_layouts(tmp_path: Path, qrels: str) -> None:
    """Ids may be numbers; a title stands before its text; what answers nothing changes nothing."""
    task = read_beir(_beir(tmp_path, CORPUS, QUERIES, qrels))
    assert (task.queries, task.corpus) == (["ships", "apples"], ["Sea a harbour", "an orchard"])
    judged = task.judgement
    assert [judged.query.tolist(), judged.candidate.tolist(), judged.gain.tolist()] == [[0, 1], [0, 1], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "said"),
    [
        (CORPUS, QUERIES, HEADER, "no query has a relevant document"),
        (CORPUS, QUERIES, "", "no query has a relevant document"),
        (CORPUS, QUERIES, f"{HEADER}7\t1\t0\n8\t2\t-1\n", "no query has a relevant document"),
        (CORPUS, QUERIES, f"{HEADER}9\t1\t1\n", r"test\.tsv:2: no query '9'"),
        (CORPUS, QUERIES, f"{HEADER}7\t1\n", r"test\.tsv:2: not a judgement"),
        (CORPUS, QUERIES, f"{HEADER}7\t1\tmuch\n", r"test\.tsv:2: not a judgement"),
        (CORPUS, QUERIES, f"{HEADER}7\t1\tnan\n", r"test\.tsv:2: not a judgement"),
        (CORPUS, QUERIES, "question\tanswer\tgrade\n7\t1\t1\n", r"test\.tsv:1: not a judgement"),
        ([*CORPUS, CORPUS[0]], QUERIES, f"{HEADER}7\t1\t1\n", r"corpus\.jsonl:3: a second text has the id '1'"),
        (CORPUS, [*QUERIES, QUERIES[0]], f"{HEADER}7\t1\t1\n", r"queries\.jsonl:3: a second text has the id '7'"),
        ([{"_id": 1, "body": "t"}], QUERIES, f"{HEADER}7\t1\t1\n", r"corpus\.jsonl:1: not a text with an id"),
        ([{"text": "t"}], QUERIES, f"{HEADER}7\t1\t1\n", r"corpus\.jsonl:1: not a text with an id"),
        ([{"_id": 1, "text": ["t"]}], QUERIES, f"{HEADER}7\t1\t1\n", r"corpus\.jsonl:1: not a text with an id"),
        ([], QUERIES, f"{HEADER}7\t1\t1\n", "no document '1' in the corpus"),
        (["t"], QUERIES, f"{HEADER}7\t1\t1\n", r"corpus\.jsonl:1: not a JSON object"),
    ],
)
def test_a_search_that_cannot_be_measured_is_said_with_its_place(
    tmp_path: Path, corpus: list, queries: list, qrels: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        read_beir(_beir(tmp_path, corpus, queries, qrels))


def test_what_is_no_text_and_no_archive_is_said(tmp_path: Path) -> None:
    root = Path(_beir(tmp_path, CORPUS, QUERIES, f"{HEADER}7\t1\t1\n"))
    (root / "corpus.jsonl").write_bytes(b'{"_id": "1", "text": "caf\xe9"}\n')
    with pytest.raises(UserError, match=r"corpus\.jsonl.*: not UTF-8"):
        read_beir(str(root))
    (root / "corpus.jsonl").unlink()
    (root / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "1", "text": "t"}\n')[:-9])
    with pytest.raises(UserError, match=r"corpus\.jsonl\.gz: not gzip's"):
        read_beir(str(root))


def test_a_folder_of_coir_without_judgements_is_said(tmp_path: Path) -> None:
    for name in ("corpus", "queries", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"_id": "1", "text": "t"}\n' if name != "test" else "\n")
    with pytest.raises(UserError, match="no query has a relevant document"):
        Coir(folder=str(tmp_path)).texts()


WORDS = ["good", "fine", "warm", "glad", "bad", "poor", "cold", "sad"]


def _sentences(kind: int, number: int) -> list[str]:
    rng = np.random.default_rng(kind)
    return [" ".join(rng.choice(WORDS[4 * kind : 4 * kind + 4], 3)) for _ in range(number)]


@pytest.mark.parametrize("names", [("rt-polarity.neg", "rt-polarity.pos"), ("subj.subjective", "subj.objective")])
def test_a_file_for_each_class_is_measured_in_folds(tmp_path: Path, names: tuple[str, str]) -> None:
    """MR, CR, MPQA and SUBJ as SentEval unpacks them; MR's own bytes are Latin-1."""
    for kind, name in enumerate(names):
        text = "\n".join(_sentences(kind, 30)) + ("\na caf\xe9" if kind else "") + "\n"
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    task = Classification(folder=str(tmp_path))
    assert [path.name for path in task.files()] == list(names)
    assert task.items()[-1] == ("a caf\xe9", "1")
    assert task.scores(bag_of_words)["accuracy"] > 0.9
    assert task.fixed()["chance"]["accuracy"] == pytest.approx(31 / 61)


@pytest.mark.parametrize("header", ["", "sentence\tlabel\n", "label\ttext\n"])
def test_sst_as_senteval_and_glue_have_it(tmp_path: Path, header: str) -> None:
    """The text first, with or without a header; the three parts."""
    for part in ("train", "dev", "test"):
        rows = [(text, kind) for kind in (0, 1) for text in _sentences(kind, 20)]
        lines = [f"{kind}\t{text}" if header.startswith("label") else f"{text}\t{kind}" for text, kind in rows]
        name = f"sentiment-{part}" if not header else f"{part}.tsv"
        (tmp_path / name).write_text(header + "\n".join(lines) + "\n")
    task = Classification(folder=str(tmp_path))
    assert (len(task.files()), len(task.items())) == (3, 40)
    assert task.scores(bag_of_words)["accuracy"] > 0.9
    untrained = Sentiment(folder=str(tmp_path), prompts=("good fine warm glad", "bad poor cold sad"), neighbours=5)
    assert untrained.scores(bag_of_words)["neighbours"] > 0.9
    with pytest.raises(UserError, match="labels up to 1 and 1 prompts"):
        Sentiment(folder=str(tmp_path), prompts=("good",)).scores(bag_of_words)


def test_trecs_questions_as_they_are_published(tmp_path: Path) -> None:
    lines = ["DESC:manner How did serfdom develop ?", "NUM:count How many cur\xe9s ?", "HUM:ind Who was he ?"] * 5
    for name in ("train_5500.label", "TREC_10.label"):
        (tmp_path / name).write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
    task = Classification(folder=str(tmp_path))
    assert task.items()[:2] == [("How did serfdom develop ?", "1"), ("How many cur\xe9s ?", "5")]
    assert task.scores(bag_of_words)["accuracy"] == 1.0
    (tmp_path / "TREC_10.label").write_text("WHAT is it ?\n")
    with pytest.raises(UserError, match=r"TREC_10\.label:1"):
        task.items()


def test_stsb_as_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "sts-test.csv"
    path.write_text(
        'main-captions\tMSRvid\t2012test\t0024\t2.5\tA "girl is\tA girl was\na\tb\tc\t1\t5.0\tx\ty\tfrom\tthere\n'
    )
    task = read_similarity(str(path))
    assert (task.first, task.second, task.score.tolist()) == (['A "girl is', "x"], ["A girl was", "y"], [2.5, 5.0])


def _written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_files_without_a_row_or_a_score_are_said(tmp_path: Path) -> None:
    _written(tmp_path / "c" / "all.tsv", "label\ttext\n")
    _written(tmp_path / "y" / "STS.input.a.txt", "one\ttwo\n")
    _written(tmp_path / "y" / "STS.gs.a.txt", "much\n")
    tasks: list[tuple[Task, str]] = [
        (Classification(folder=str(tmp_path / "c")), r"all\.tsv: no label and text"),
        (Similarity(file=_written(tmp_path / "none.tsv", "score\tsentence1\tsentence2\n")), r"none\.tsv: no pair"),
        (Similarity(file=_written(tmp_path / "nan.tsv", "score\tsentence1\tsentence2\nnan\ta\tb\n")), r"nan\.tsv:2"),
        (Similarity(file=_written(tmp_path / "columns.tsv", "first\tsecond\na\tb\n")), r"columns\.tsv:1"),
        (Year(folder=str(tmp_path / "y")), r"STS\.gs\.a\.txt:1: 'much' is no score"),
    ]
    for task, said in tasks:
        with pytest.raises(UserError, match=said):
            task.texts()
    with pytest.raises(UserError, match="3 rows are too few for 10 folds"):
        cross_validated(np.eye(3, dtype=np.float32), np.array([0, 1, 0]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_an_error_of_every_kind(tmp_path: Path, value: float) -> None:
    """NaN compares false with everything: it would be an answer, or the middle rank."""

    def broken(texts: list[str], side: str = "x") -> np.ndarray:
        vectors = bag_of_words(texts)
        vectors[-1, 0] = value
        return vectors

    tasks = [*small_data(tmp_path), Sentiment(folder=str(tmp_path / "class"))]
    for task in tasks:
        with pytest.raises(UserError, match="a vector is not finite"):
            measure([task], {"model": broken})
    with pytest.raises(UserError, match="a vector is not finite"):
        search_beir(read_beir(str(tmp_path / "search")), broken)
    assert isinstance(tasks[0], Beir)


def test_texts_without_a_word_teach_nothing() -> None:
    for learn in (tfidf_svd, word_vectors):
        assert not learn(["!!!", ""])(["a word", "?"], "x").any()
