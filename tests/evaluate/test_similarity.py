"""Spearman's rho against its definition, and on STS-B."""

from pathlib import Path

import numpy as np
import pytest

from cpt_ray.evaluate.similarity import SimilarityTask, read_similarity, similarity


def test_rho_is_the_correlation_of_ranks() -> None:
    """Without ties, rho = 1 - 6 sum d^2 / (n (n^2 - 1))."""
    n = 12
    rng = np.random.default_rng(0)
    cosines, scores = rng.permutation(n) / n, rng.permutation(n).astype(float)

    def embed(texts: list[str], side: str) -> np.ndarray:
        assert side == "x"
        angle = [0.0 if t == "base" else float(np.arccos(cosines[int(t)])) for t in texts]
        return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)

    d = np.argsort(np.argsort(cosines)) - np.argsort(np.argsort(scores))
    task = SimilarityTask(["base"] * n, [str(i) for i in range(n)], scores)
    assert similarity(task, embed) == pytest.approx(1 - 6 * (d**2).sum() / (n * (n**2 - 1)))


def test_a_collapsed_model_measures_zero() -> None:
    """Equal cosines everywhere rank nothing; the answer is 0 and not NaN."""
    task = SimilarityTask(["a", "b"], ["c", "d"], np.array([1.0, 2.0]))
    assert similarity(task, lambda texts, side: np.ones((len(texts), 1), np.float32)) == 0.0


def test_word_overlap_on_stsb(eval_data: Path, embed) -> None:
    """Word overlap alone is known to reach a moderate correlation on STS-B."""
    task = read_similarity(str(eval_data / "similarity" / "STSB" / "dev.tsv"))
    assert len(task.first) == 1500
    assert 0.4 < similarity(task, embed) < 0.8
