"""mteb measures our export as it is, and gives our numbers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

mteb = pytest.importorskip("mteb", reason="mteb is an extra: pip install 'cpt-ray[mteb]'")

from datasets import Dataset, DatasetDict  # noqa: E402
from mteb.abstasks.classification import AbsTaskClassification  # noqa: E402
from mteb.abstasks.clustering import AbsTaskClustering  # noqa: E402
from mteb.abstasks.pair_classification import AbsTaskPairClassification  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.sts import AbsTaskSTS  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

from cpt_ray.evaluate.mteb import Encoder  # noqa: E402
from cpt_ray.evaluate.search import BeirTask, read_beir, search_beir  # noqa: E402
from cpt_ray.evaluate.similarity import read_similarity, similarity  # noqa: E402

WORDS = ["harbour", "lantern", "orchard", "copper", "violin", "glacier", "saddle", "pepper", "compass", "thunder"]


def _about(kind: str, name: str, main: str) -> TaskMetadata:
    return TaskMetadata(
        type=kind,
        name=name,
        main_score=main,
        description="Made for a test",
        reference="https://github.com/embeddings-benchmark/mteb",
        dataset={"path": "none", "revision": "1"},
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-02"),
        dialect=[],
        domains=[],
        task_subtypes=[],
        license="cc-by-4.0",
        annotations_creators="derived",
        modalities=["text"],
        sample_creation="found",
        bibtex_citation="",
    )


def _sentences(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(2, 6))) + f" {i}" for i in range(n)]


class Search(AbsTaskRetrieval):
    metadata = _about("Retrieval", "LocalSearch", "ndcg_at_10")
    task: BeirTask

    def load_data(self, *_: Any, **__: Any) -> None:
        j = self.task.judgement
        relevant: dict[str, dict[str, int]] = {}
        for query, candidate, gain in zip(j.query.tolist(), j.candidate.tolist(), j.gain.tolist(), strict=True):
            relevant.setdefault(f"q{query}", {})[f"d{candidate}"] = int(gain)
        corpus = [{"id": f"d{i}", "title": "", "text": text} for i, text in enumerate(self.task.corpus)]
        queries = [{"id": f"q{i}", "text": text} for i, text in enumerate(self.task.queries)]
        part = {
            "corpus": Dataset.from_list(corpus),
            "queries": Dataset.from_list(queries),
            "relevant_docs": relevant,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": part}}
        self.data_loaded = True


class Alike(AbsTaskSTS):
    metadata = _about("STS", "LocalSTS", "cosine_spearman")
    min_score, max_score = 0, 5
    rows: dict[str, list[Any]]

    def load_data(self, *_: Any, **__: Any) -> None:
        self.dataset = DatasetDict({"test": Dataset.from_dict(self.rows)})
        self.data_loaded = True


class Classes(AbsTaskClassification):
    metadata = _about("Classification", "LocalClasses", "accuracy")

    def load_data(self, *_: Any, **__: Any) -> None:
        parts = {}
        for seed, name in enumerate(("train", "test")):
            texts = [f"{WORDS[i % 2]} {text}" for i, text in enumerate(_sentences(40, seed))]
            parts[name] = Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(40)]})
        self.dataset = DatasetDict(parts)
        self.data_loaded = True


class Pairs(AbsTaskPairClassification):
    metadata = _about("PairClassification", "LocalPairs", "max_ap")

    def load_data(self, *_: Any, **__: Any) -> None:
        first = _sentences(40, 2)
        second = [
            text if i % 2 else other for i, (text, other) in enumerate(zip(first, _sentences(40, 3), strict=True))
        ]
        rows = {"sentence1": first, "sentence2": second, "labels": [i % 2 for i in range(40)]}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
        self.data_loaded = True


class Clusters(AbsTaskClustering):
    metadata = _about("Clustering", "LocalClusters", "v_measure")
    max_document_to_embed, max_fraction_of_documents_to_embed, n_clusters = 60, None, 2

    def load_data(self, *_: Any, **__: Any) -> None:
        texts = [f"{WORDS[i % 3]} {WORDS[i % 3]} {text}" for i, text in enumerate(_sentences(60, 4))]
        self.dataset = DatasetDict(
            {"test": Dataset.from_dict({"sentences": texts, "labels": [i % 3 for i in range(60)]})}
        )
        self.data_loaded = True


def _beir(root: Path) -> BeirTask:
    (root / "qrels").mkdir()
    corpus = _sentences(150, 5)
    (root / "corpus.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"d{i}", "title": WORDS[i % 10] if i % 3 else "", "text": t}) + "\n"
            for i, t in enumerate(corpus)
        )
    )
    asked = [" ".join(corpus[3 * i].split()[:3]) for i in range(50)]
    (root / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": t}) + "\n" for i, t in enumerate(asked))
    )
    judged = [f"q{i}\td{(3 * i + k * k) % 150}\t{3 - k}\n" for i in range(50) for k in range(3)]
    (root / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    return read_beir(str(root))


def _alike(root: Path) -> str:
    rng = random.Random(6)
    rows = [f"{rng.randint(0, 5)}\t{a}\t{b}" for a, b in zip(_sentences(60, 7), _sentences(60, 8), strict=True)]
    (root / "alike.tsv").write_text("score\tsentence1\tsentence2\n" + "\n".join(rows) + "\n")
    return str(root / "alike.tsv")


def _scores(model: Any, *tasks: Any) -> dict[str, dict[str, Any]]:
    found = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False)
    return {result.task_name: result.scores["test"][0] for result in found.task_results}


@pytest.fixture(scope="module")
def encoder(model_folder: str) -> Encoder:
    return Encoder(model_folder, device="cpu")


def test_our_numbers_are_mtebs(encoder: Encoder, tmp_path: Path) -> None:
    """Search with graded answers and titles, and similarity, of one model on the same data: to 1e-4."""
    beir, alike = _beir(tmp_path), read_similarity(_alike(tmp_path))
    Search.task = beir
    Alike.rows = {"sentence1": alike.first, "sentence2": alike.second, "score": alike.score.tolist()}
    theirs = _scores(encoder, Search(), Alike())
    embed = encoder.embedder.embed
    ours = search_beir(beir, embed)
    for name in ("ndcg_at_1", "ndcg_at_10", "ndcg_at_100", "recall_at_1", "recall_at_10", "recall_at_100"):
        assert 0 < ours[name] < 1
        assert theirs["LocalSearch"][name] == pytest.approx(ours[name], abs=1e-4), name
    assert theirs["LocalSearch"]["mrr_at_1000"] == pytest.approx(ours["mrr"], abs=1e-4)
    assert theirs["LocalSTS"]["cosine_spearman"] == pytest.approx(similarity(alike, embed), abs=1e-4)


def test_each_type_of_task_and_both_ways_of_giving_the_model(
    encoder: Encoder, model_folder: str, tmp_path: Path
) -> None:
    """Sides by prompt types, and side y where there is none: what sentence-transformers' own wrapper gives."""
    alike = read_similarity(_alike(tmp_path))
    Search.task = _beir(tmp_path)
    Alike.rows = {"sentence1": alike.first, "sentence2": alike.second, "score": alike.score.tolist()}
    tasks = [Search, Alike, Classes, Pairs, Clusters]
    ours = _scores(encoder, *(task() for task in tasks))
    theirs = _scores(SentenceTransformer(model_folder, device="cpu"), *(task() for task in tasks))
    assert len(ours) == len(tasks)
    for name, scores in theirs.items():
        assert ours[name]["main_score"] == pytest.approx(scores["main_score"], abs=1e-4), name


@pytest.mark.slow
def test_mteb_finds_nothing_wrong_with_it(encoder: Encoder) -> None:
    """Its own mock run: every task that a text model can take."""
    found = mteb.mock_run(encoder)
    failed = {name: result for name, result in found.task_results.items() if type(result).__name__ == "TaskError"}
    assert not failed
    assert sum(result is not None for result in found.task_results.values()) > 10


def test_a_revision_is_the_content(encoder: Encoder, model_folder: str) -> None:
    """Results that mteb keeps are of these very weights."""
    about = encoder.mteb_model_meta
    assert about.name == f"cpt-ray/{Path(model_folder).name}"
    assert len(about.revision) == 32
    assert (about.embed_dim, about.max_tokens) == (32, 40)
