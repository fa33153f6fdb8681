"""Search over blocks and over BEIR folders; known figures on the shared sets."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.errors import UserError
from cpt_ray.evaluate.baselines import chance
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.search import bm25_beir, compare, read_beir, search_beir


def _pairs(n: int) -> pa.Table:
    at = [0] * n
    return pa.table(
        {
            "pair_id": [f"p{i}" for i in range(n)],
            "group": [f"g{i}" for i in range(n)],
            "x": [f"question {i} word{i} blah" for i in range(n)],
            "y": [f"answer about word{i}" for i in range(n)],
            "x_hash": pa.array([2 * i for i in range(n)], pa.uint64()),
            "y_hash": pa.array([2 * i + 1 for i in range(n)], pa.uint64()),
            "cluster": pa.array(range(n), pa.uint64()),
            "x_doc": [f"d{i}" for i in range(n)],
            **dict.fromkeys(("x_start", "x_end", "y_start", "y_end"), at),
        }
    )


def test_models_and_baselines_stand_on_the_same_blocks() -> None:
    """A model that knows the answers scores 1, one that gives every text the same vector scores chance, BM25 finds
    the shared word."""
    numbers = {text: i for i in range(90) for text in (f"question {i} word{i} blah", f"answer about word{i}")}

    def oracle(texts: list[str], side: str) -> np.ndarray:
        return np.eye(90, dtype=np.float32)[[numbers[text] for text in texts]]

    def collapsed(texts: list[str], side: str) -> np.ndarray:
        return np.ones((len(texts), 1), np.float32)

    result = compare(_pairs(90), CandidateOptions(candidates=30), {"model": oracle, "initial": collapsed})
    assert result["model"] == {"mrr": 1.0, "recall_at_1": 1.0, "recall_at_10": 1.0}
    assert result["initial"] == pytest.approx(chance(30))
    assert result["chance"] == chance(30)
    assert result["bm25"]["mrr"] == 1.0
    assert result["setting"]["queries"] == 90
    assert result["setting"]["candidates"] == 30


def test_sides_reach_the_model() -> None:
    """Queries are embedded as x and candidates as y."""
    seen = []

    def embed(texts: list[str], side: str) -> np.ndarray:
        seen.append((side, texts[0].split()[0]))
        return np.ones((len(texts), 1), np.float32)

    compare(_pairs(10), CandidateOptions(candidates=10, blocks=1), {"model": embed})
    assert seen == [("x", "question"), ("y", "answer")]


def test_bm25_on_cosqa_is_the_known_figure(eval_data: Path) -> None:
    """CoSQA's test queries over all 6,267 functions, docstrings in the code: MRR 0.330, as measured elsewhere."""
    task = read_beir(str(eval_data / "code_search" / "cosqa"))
    assert len(task.queries) == 500
    assert len(task.corpus) == 6267
    assert bm25_beir(task)["mrr"] == pytest.approx(0.330, abs=0.01)


def test_bag_of_words_finds_paragraphs(eval_data: Path, embed) -> None:
    """On 240 paragraphs of XQuAD even word counts are far above chance, and BM25 above them."""
    task = read_beir(str(eval_data / "search" / "xquad-en"))
    ours, bm25 = search_beir(task, embed), bm25_beir(task)
    assert 10 * chance(240)["mrr"] < ours["mrr"] < bm25["mrr"]
    assert bm25["ndcg_at_10"] > 0.8


def test_a_judgement_of_an_unknown_document_names_its_line(tmp_path: Path) -> None:
    """The error says which line of which file."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "t"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "t"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\nq\tb\t1\n")
    with pytest.raises(UserError, match=r"test\.tsv:3"):
        read_beir(str(tmp_path))
