"""Intervals and tests: against scipy, against the law they are made for, and the same numbers every time."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cpt_ray.evaluate.statistics import EXCHANGES, Figure, holm, interval, merits, paired


def _correlated(n: int, seed: int, noise: float, levels: int = 6) -> np.ndarray:
    """(n, 2): cosine and people's score, with many ties in the scores."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, levels, n).astype(float)
    return np.stack([gold + noise * rng.standard_normal(n), gold], axis=1)


def test_a_figure_is_a_number_everywhere() -> None:
    """It is written, pickled and computed with as the float it is."""
    mean, rho = Figure.of(np.array([1.0, 0.5, 0.0])), Figure.of(_correlated(50, 0, 1.0))
    assert mean == 0.5
    assert json.loads(json.dumps({"mrr": mean})) == {"mrr": 0.5}
    again = pickle.loads(pickle.dumps(rho))
    assert again == rho
    np.testing.assert_array_equal(again.each, rho.each)
    with pytest.raises(ValueError, match="nothing"):
        Figure.of(np.array([]))


@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_the_correlation_is_scipys(n: int, seed: int, levels: int) -> None:
    """Average ranks for ties on both sides; a constant side correlates with nothing."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, levels, (n, 2)).astype(float)
    found = Figure.of(rows)
    if np.ptp(rows[:, 0]) == 0 or np.ptp(rows[:, 1]) == 0:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(rows[:, 0], rows[:, 1]).statistic, abs=1e-12)


@pytest.mark.parametrize(
    "rows", [np.random.default_rng(1).random(300) ** 3, _correlated(300, 2, 2.0)], ids=["mean", "rho"]
)
def test_intervals_are_scipys_bootstrap(rows: np.ndarray) -> None:
    """Percentile bootstrap over the queries, to the noise of the draws; and the same for the same scores."""
    figure = Figure.of(rows)
    low, high = interval(figure)
    assert low < figure < high
    assert (low, high) == interval(Figure.of(rows.copy()))
    data = (rows,) if rows.ndim == 1 else (rows[:, 0], rows[:, 1])
    of = np.mean if rows.ndim == 1 else lambda a, b: stats.spearmanr(a, b).statistic
    theirs = stats.bootstrap(
        data, of, paired=rows.ndim == 2, vectorized=False, n_resamples=1000, method="percentile", rng=0
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.1 * (high - low))
    assert high == pytest.approx(theirs.high, abs=0.1 * (high - low))


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 300 samples of 200 queries, some 95 in a hundred intervals hold the mean of all."""
    rng = np.random.default_rng(3)
    samples = 1.0 / rng.integers(1, 20, (300, 200))
    truth = np.mean(1.0 / np.arange(1, 20))
    held = [low <= truth <= high for low, high in (interval(Figure.of(one), draws=500) for one in samples)]
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("seed", range(4))
def test_p_of_means_is_scipys_permutation_test(seed: int) -> None:
    """All 2^10 exchanges by scipy, ours at random."""
    rng = np.random.default_rng(seed)
    a, b = rng.random(10), rng.random(10) + 0.2
    exact = stats.permutation_test(
        (b, a), lambda x, y: np.mean(x - y), permutation_type="samples", vectorized=False
    ).pvalue
    assert paired(Figure.of(a), Figure.of(b)).p == pytest.approx(exact, abs=0.02)


def test_p_is_level_when_models_are_alike() -> None:
    """Of 200 pairs of equally good models some 5 in a hundred have p below 0.05, of means and of correlations."""
    rng = np.random.default_rng(4)
    means = [paired(*(Figure.of(rng.random(40) ** 4) for _ in "ab"), draws=1, exchanges=400).p for _ in range(200)]
    assert 0.01 <= np.mean(np.array(means) < 0.05) <= 0.10
    rhos = []
    for seed in range(200):
        one, other = _correlated(60, seed, 2.0), _correlated(60, seed, 2.0)
        gold = one[:, 1]
        other[:, 0] = 100 * (gold + 2.0 * rng.standard_normal(60))  # another scale is no difference
        rhos.append(paired(Figure.of(one), Figure.of(other), draws=1, exchanges=400).p)
    assert 0.01 <= np.mean(np.array(rhos) < 0.05) <= 0.10


def test_a_better_model_is_found_and_the_same_one_is_not() -> None:
    for rows, better in [
        (np.random.default_rng(5).random(200), np.random.default_rng(5).random(200) + 0.1),
        (_correlated(300, 6, 3.0), _correlated(300, 6, 0.5)),
    ]:
        first, second = Figure.of(rows), Figure.of(better)
        found = paired(first, second)
        assert found.p == pytest.approx(1 / (1 + EXCHANGES))
        assert 0 < found.low < found.difference < found.high
        back = paired(second, first)
        assert (back.difference, back.p, back.won, back.lost) == (-found.difference, found.p, found.lost, found.won)
        same = paired(first, Figure.of(rows))
        assert (same.difference, same.low, same.high, same.p, same.won, same.lost) == (0, 0, 0, 1, 0, 0)
        assert len(merits(first)) == found.queries
    with pytest.raises(ValueError, match="same queries"):
        paired(Figure.of(np.ones(3)), Figure.of(np.ones(4)))


def test_holm_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
