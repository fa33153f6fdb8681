"""Spearman's rho against its definition, and on STS-B."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cpt_ray.evaluate.similarity import SimilarityTask, read_similarity, similarity
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import ModelOptions
from tests.model.written import write_model


def test_rho_is_the_correlation_of_ranks() -> None:
    """Without ties, rho = 1 - 6 sum d^2 / (n (n^2 - 1))."""
    n = 12
    rng = np.random.default_rng(0)
    cosines, scores = rng.permutation(n) / n, rng.permutation(n).astype(float)

    def embed(texts: list[str], side: str) -> np.ndarray:
        assert side == "y"
        angle = [0.0 if t == "base" else float(np.arccos(cosines[int(t)])) for t in texts]
        return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)

    d = np.argsort(np.argsort(cosines)) - np.argsort(np.argsort(scores))
    task = SimilarityTask(["base"] * n, [str(i) for i in range(n)], scores)
    assert similarity(task, embed) == pytest.approx(1 - 6 * (d**2).sum() / (n * (n**2 - 1)))


def test_a_collapsed_model_measures_zero() -> None:
    """Equal cosines everywhere rank nothing; the answer is 0 and not NaN."""
    task = SimilarityTask(["a", "b"], ["c", "d"], np.array([1.0, 2.0]))
    assert similarity(task, lambda texts, side: np.ones((len(texts), 1), np.float32)) == 0.0


def test_it_is_what_sentence_transformers_measures(eval_data: Path, tmp_path: Path) -> None:
    """Of the same exported model, by its evaluator and so by `encode` without a side, which is what mteb calls; the
    other side gives another figure."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    backend = Tokenizer(
        models.BPE(vocab={w: i for i, w in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="a")
    small = ModelOptions(hidden_size=32, layers=2, heads=2, context=64)
    write_model(str(tmp_path), tokenizer, small, tokens=300, x=48, y=48)
    whole = read_similarity(str(eval_data / "similarity" / "STSB" / "dev.tsv"))
    task = SimilarityTask(whole.first[:200], whole.second[:200], whole.score[:200])
    embedder = Embedder(str(tmp_path))
    theirs = EmbeddingSimilarityEvaluator(task.first, task.second, list(task.score / 5), main_similarity="cosine")
    found = theirs(sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu"))
    assert similarity(task, embedder.embed) == pytest.approx(found["spearman_cosine"], abs=1e-4)
    assert abs(similarity(task, lambda texts, side: embedder.embed(texts, "x")) - found["spearman_cosine"]) > 1e-3


def test_word_overlap_on_stsb(eval_data: Path, embed) -> None:
    """Word overlap alone is known to reach a moderate correlation on STS-B."""
    task = read_similarity(str(eval_data / "similarity" / "STSB" / "dev.tsv"))
    assert len(task.first) == 1500
    assert 0.4 < similarity(task, embed) < 0.8
