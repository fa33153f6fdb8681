"""Components: scipy's and the propagated ones are the same."""

from __future__ import annotations

import numpy as np
import pytest

from cpt_ray.dedup.components import components, propagate


@pytest.mark.parametrize("edges", [0, 1, 300, 900, 3000])
@pytest.mark.parametrize("block", [7, 10_000])
def test_both_ways_agree_and_name_the_smallest_node(edges: int, block: int) -> None:
    """Random graphs from scattered to one giant component, and blocks that cut anywhere."""
    rng = np.random.default_rng(edges)
    left, right = rng.integers(0, 1000, (2, edges))
    ours = components(1000, left, right)
    assert (ours == propagate(1000, left, right, block)).all()
    assert (ours <= np.arange(1000)).all()
    assert (ours[ours] == ours).all()
    assert (ours[left] == ours[right]).all()


def test_a_long_path_is_one_component() -> None:
    """The worst case of propagation by neighbours: a path of 20,000 nodes, its edges in random order."""
    order = np.random.default_rng(0).permutation(19_999)
    assert (propagate(20_000, order, order + 1) == 0).all()
