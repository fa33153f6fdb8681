"""Health without labels, on spaces whose figures are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cpt_ray.errors import UserError
from cpt_ray.evaluate.health import effective_rank, health
from cpt_ray.evaluate.suite import measure
from cpt_ray.evaluate.tasks.health import Health
from cpt_ray.ranking import Floats
from tests.evaluate.test_compare import small_data


def _unit(rows: Floats) -> Floats:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _ball(n: int, d: int, seed: int = 0) -> Floats:
    return _unit(np.random.default_rng(seed).standard_normal((n, d)))


def test_the_figures_are_their_definitions() -> None:
    """Against all distances written out."""
    x, y = _ball(60, 8, 1), _ball(60, 8, 2)
    found = health(x, y, list(range(60)))
    assert found["alignment"] == pytest.approx(np.mean(np.linalg.norm(x - y, axis=1) ** 2), abs=1e-6)
    assert found["uniformity"] == pytest.approx(np.log(np.mean(np.exp(-2 * pdist(y) ** 2))), abs=1e-6)


def test_a_space_that_fell_together_is_told_from_one_that_is_spread_out() -> None:
    ball, point = _ball(400, 16), _unit(np.ones((400, 16)))
    spread, fallen = health(ball, ball, [1] * 400), health(point, point, [1] * 400)
    assert fallen == pytest.approx(
        {
            "alignment": 0,
            "uniformity": 0,
            "effective_rank": 1,
            "hubness": fallen["hubness"],
            "orphans": fallen["orphans"],
            "length_bias": 0,
        },
        abs=1e-5,
    )
    assert spread["alignment"] == pytest.approx(0, abs=1e-6)
    assert spread["uniformity"] < -2.5
    assert spread["effective_rank"] > 15


def test_the_effective_rank_is_the_number_of_equal_directions() -> None:
    """Of a cross in 3 of 10 dimensions it is 3."""
    cross = np.zeros((6, 10))
    cross[range(6), [0, 0, 1, 1, 2, 2]] = [1, -1] * 3
    assert effective_rank(cross) == pytest.approx(3)


def test_hubs_and_a_bias_to_long_texts_are_seen() -> None:
    """A few texts near to all queries skew the counts; where they are the long ones, length and nearness go together."""
    x, y = _ball(300, 32, 3), _ball(300, 32, 4)
    plain, strength = health(x, y, list(range(300))), np.linspace(0, 1, 300)
    x[:, 0] += 1
    y[:, 0] += strength
    biased = health(_unit(x), _unit(y), list(range(300)))
    assert biased["hubness"] > plain["hubness"] + 0.5
    assert biased["orphans"] > plain["orphans"]
    assert biased["length_bias"] > plain["length_bias"] + 0.2


def test_as_a_task_it_stands_in_the_suite(tmp_path: Path, embed) -> None:
    small_data(tmp_path)
    rows = measure([Health(folder=str(tmp_path / "search"))], {"model": embed})
    assert [row["method"] for row in rows] == ["model", "tfidf_svd", "word_vectors"]
    assert rows[0]["value"] == rows[0]["scores"]["effective_rank"] > 1
    assert "low" not in rows[0]
    with pytest.raises(UserError, match="2 pairs of different answers"):
        Health(folder=str(tmp_path / "search"), most=3).model_copy(update={"most": 2}).scores(embed)
