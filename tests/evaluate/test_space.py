"""Of pairs in a space: every cosine is counted once, and the map is the plane of the largest spread."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from cpt_ray.evaluate.space import BINS, principal_axes, space_of
from tests.evaluate.report_sample import unit


def test_each_cosine_is_in_its_bin() -> None:
    x, y = unit(np.random.default_rng(0))
    found = space_of(x, y)
    cosines = x @ y.T
    assert (sum(found["right"]), sum(found["other"])) == (50, 50 * 49)
    lows = np.linspace(-1, 1, BINS + 1)[:-1]
    own = np.diag(cosines)
    assert found["right"] == [int(np.count_nonzero((own >= low) & (own < low + 2 / BINS))) for low in lows]
    same = space_of(x, x)
    assert same["right"][-1] == 50
    assert all(row[:2] == row[2:] for row in same["map"])


def test_the_map_is_scikit_learns_up_to_signs() -> None:
    x, y = unit(np.random.default_rng(1))
    both = np.concatenate([x, y])
    mean, axes = principal_axes(both)
    wanted = PCA(2).fit_transform(both)
    np.testing.assert_allclose(np.abs((both - mean) @ axes), np.abs(wanted), atol=1e-9)
    places = np.array(space_of(x, y)["map"])
    np.testing.assert_allclose(np.abs(places[:, :2]), np.abs(wanted[:50]), atol=1e-4)
    np.testing.assert_allclose(np.abs(places[:, 2:]), np.abs(wanted[50:]), atol=1e-4)
