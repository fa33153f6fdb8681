"""Retrieval during training is the retrieval that evaluation measures: against enumeration, ties included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cpt_ray.ranking import Judgement, cosine_tiles, metrics, place
from cpt_ray.train import heldout
from cpt_ray.train.heldout import retrieval
from cpt_ray.train.loss import Keys


def keys(x_hash: list[int], y_hash: list[int], cluster: list[int]) -> Keys:
    return Keys(*(torch.tensor(values) for values in (x_hash, y_hash, cluster)), torch.empty(0, dtype=torch.int64))


def different(n: int) -> Keys:
    return keys(list(range(n)), list(range(n)), list(range(n)))


def by_enumeration(x: np.ndarray, y: np.ndarray, known: Keys, k: int) -> tuple[float, float]:
    """(MRR, recall@k): the mean over every order of the candidates left that respects the scores."""
    ranks = []
    for i, query in enumerate(x):
        left = [
            j
            for j in range(len(y))
            if j == i or all(key[i] != key[j] for key in (known.x_hash, known.y_hash, known.cluster))
        ]
        scores = {j: float(query @ y[j]) for j in left}
        orders = [
            order
            for order in itertools.permutations(left)
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
        ]
        ranks.append([order.index(i) + 1 for order in orders])
    mrr = np.mean([np.mean([1 / rank for rank in each]) for each in ranks])
    return float(mrr), float(np.mean([np.mean([rank <= k for rank in each]) for each in ranks]))


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_mean_over_every_order_of_the_ties(seed: int) -> None:
    """Scores of small whole numbers tie often; equal content and equal clusters are left out, the answer never is."""
    random = np.random.default_rng(seed)
    x, y = random.integers(-1, 2, (2, 6, 2)).astype(np.float32)
    known = keys(*(list(random.integers(0, 9, 6)) for _ in range(3)))
    found = retrieval(torch.from_numpy(x), torch.from_numpy(y), known)
    mrr, first = by_enumeration(x, y, known, 1)
    assert found["heldout_mrr"] == pytest.approx(mrr, abs=1e-12)
    assert found["heldout_recall_at_1"] == pytest.approx(first, abs=1e-12)
    assert found["heldout_recall_at_10"] == 1


def test_is_what_evaluation_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is left out, the numbers are those of `cpt-ray evaluate`, whatever the size of the tiles."""
    x, y = (torch.nn.functional.normalize(torch.randn(2, 50, 4), dim=-1) * 2).round() / 2
    wanted = metrics(place(cosine_tiles(x.numpy(), y.numpy()), Judgement.diagonal(50)))
    for size in (1 << 20, 4 * 50 * 7):
        monkeypatch.setattr(heldout, "TILE_BYTES", size)
        found = retrieval(x, y, different(50))
        assert found == pytest.approx({f"heldout_{name}": value for name, value in wanted.items()}, abs=1e-12)


def test_a_collapsed_model_measures_chance() -> None:
    """All texts at one point: neither lucky nor unlucky."""
    same = torch.ones(40, 1)
    assert retrieval(same, same, different(40))["heldout_mrr"] == pytest.approx(sum(1 / k for k in range(1, 41)) / 40)
