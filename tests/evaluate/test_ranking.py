"""MRR, recall@k and nDCG@k against enumeration of every tie order, against scikit-learn, and against chance."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from cpt_ray.errors import UserError
from cpt_ray.evaluate.baselines import chance
from cpt_ray.ranking import Judgement, cosine_tiles, metrics, per_query, place


def _one_order(order: list[int], gains: dict[int, float], ks: tuple[int, ...]) -> dict[str, float]:
    places = {candidate: place for place, candidate in enumerate(order, start=1)}
    result = {"mrr": max(1 / places[c] for c in gains)}
    for k in ks:
        result[f"mrr_at_{k}"] = max(1 / places[c] if places[c] <= k else 0.0 for c in gains)
        result[f"recall_at_{k}"] = sum(places[c] <= k for c in gains) / len(gains)
        ideal = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(gains.values(), reverse=True)[:k]))
        result[f"ndcg_at_{k}"] = sum(g / np.log2(places[c] + 1) for c, g in gains.items() if places[c] <= k) / ideal
    return result


def _by_enumeration(scores: np.ndarray, relevant: list[dict[int, float]], ks: tuple[int, ...]) -> dict[str, float]:
    """Mean over queries of the mean over all permutations that respect the scores."""
    totals: dict[str, list[float]] = {}
    for row, gains in zip(scores, relevant, strict=True):
        orders = [
            p
            for p in itertools.permutations(range(len(row)))
            if all(row[a] >= row[b] for a, b in itertools.pairwise(p))
        ]
        values = [_one_order(list(p), gains, ks) for p in orders]
        for key in values[0]:
            totals.setdefault(key, []).append(float(np.mean([v[key] for v in values])))
    return {key: float(np.mean(v)) for key, v in totals.items()}


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_mean_over_every_order_of_the_ties(seed: int) -> None:
    """With several graded relevant candidates and many ties, each metric is the mean over all orders that respect the
    scores."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (3, 6)).astype(np.float32)
    relevant = [
        {int(c): float(rng.integers(1, 4)) for c in rng.choice(6, rng.integers(1, 4), replace=False)} for _ in range(3)
    ]
    each = per_query(place([scores], Judgement.of(relevant)), ks=(1, 3), ndcg=True, mrr=(1, 3))
    got = {name: values.mean() for name, values in each.items()}
    want = _by_enumeration(scores, relevant, (1, 3))
    assert got.keys() == want.keys()
    for key in want:
        assert got[key] == pytest.approx(want[key], abs=1e-12), key


def test_ndcg_equals_scikit_learn() -> None:
    """On scores without ties, nDCG@10 is scikit-learn's."""
    rng = np.random.default_rng(0)
    scores = rng.permutation(40 * 60).reshape(40, 60).astype(np.float64)
    gains = rng.integers(0, 4, (40, 60)) * (rng.random((40, 60)) < 0.1)
    gains[:, 0] = 1
    relevant = [{int(c): float(row[c]) for c in np.flatnonzero(row)} for row in gains]
    got = metrics(place([scores], Judgement.of(relevant)), ks=(10,), ndcg=True)["ndcg_at_10"]
    assert got == pytest.approx(ndcg_score(gains, scores, k=10), abs=1e-12)


def test_equal_scores_measure_chance() -> None:
    """A scorer that cannot tell candidates apart gets exactly what chance gets, for each metric."""
    n = 50
    got = metrics(place([np.zeros((n, n), np.float32)], Judgement.diagonal(n)))
    assert got == pytest.approx(chance(n), abs=1e-12)


def test_tiles_do_not_change_the_result() -> None:
    """The size of the tiles is a matter of memory alone."""
    rng = np.random.default_rng(1)
    queries, candidates = rng.standard_normal((2, 70, 8)).astype(np.float32)
    whole = place(cosine_tiles(queries, candidates), Judgement.diagonal(70))
    small = place(cosine_tiles(queries, candidates, tile_bytes=3 * 4 * 70), Judgement.diagonal(70))
    assert len(list(cosine_tiles(queries, candidates, tile_bytes=3 * 4 * 70))) == 24
    assert (whole.better == small.better).all()
    assert (whole.tied == small.tied).all()


def test_perfect_and_worst() -> None:
    """The diagonal on top is 1 everywhere; the diagonal at the bottom is 1/N and 0."""
    best = metrics(place([np.eye(20)], Judgement.diagonal(20)))
    assert best == {"mrr": 1.0, "recall_at_1": 1.0, "recall_at_10": 1.0}
    worst = metrics(place([-np.eye(20)], Judgement.diagonal(20)))
    assert worst == {"mrr": pytest.approx(1 / 20), "recall_at_1": 0.0, "recall_at_10": 0.0}


def test_a_query_without_an_answer_is_left_out_of_the_mean() -> None:
    """Only queries with a relevant candidate count, and none at all is an error."""
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert metrics(place([scores], Judgement.of([[1], []])))["mrr"] == pytest.approx(0.5)
    with pytest.raises(UserError, match="no query has"):
        metrics(place([scores], Judgement.of([[], []])))


def test_nan_is_refused() -> None:
    """A model that gives NaN must not look perfect."""
    scores = np.eye(5)
    scores[3] = np.nan
    with pytest.raises(UserError, match="query 3"):
        place([scores[:2], scores[2:]], Judgement.diagonal(5))
