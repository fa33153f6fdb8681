"""Components: scipy's and the propagated ones are the same, in a number of rounds that does not follow the graph."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.artifacts import read_manifest
from cpt_ray.dedup import components
from cpt_ray.dedup.components import on_one_node, propagate
from cpt_ray.dedup.kernels import I64
from tests.dedup.dedup_corpus import Killed, dying


def rounds(path: Path) -> int:
    return len(list(path.glob("round-*/manifest.json")))


def propagated(nodes: int, left: I64, right: I64, path: Path) -> I64:
    """The labels, after a look at the number of rounds: each must have something to do but the last."""
    found = propagate(nodes, left, right, str(path))
    assert rounds(path) <= 1.45 * math.log2(max(nodes, 2)) + 2
    kept = [read_manifest(str(name)).rows for name in sorted(path.glob("round-*"))]
    assert all(kept[:-1])
    assert not kept[-1]
    return found


@pytest.mark.parametrize("edges", [0, 1, 300, 900, 3000])
@pytest.mark.parametrize("part", [97, 10_000])
def test_both_ways_agree_and_name_the_smallest_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edges: int, part: int
) -> None:
    """Random graphs from scattered to one giant component, and parts that cut anywhere."""
    monkeypatch.setattr(components, "EDGES_PER_PART", part)
    rng = np.random.default_rng(edges)
    left, right = rng.integers(0, 1000, (2, edges))
    ours = on_one_node(1000, left, right)
    assert (ours == propagated(1000, left, right, tmp_path / "c")).all()
    assert (ours <= np.arange(1000)).all()
    assert (ours[ours] == ours).all()
    assert (ours[left] == ours[right]).all()


@pytest.mark.parametrize("part", [1000, 6000])
def test_a_long_path_is_one_component_in_few_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """The worst case of propagation by neighbours, which needs 20,000 rounds: edges and numbers in random order."""
    monkeypatch.setattr(components, "EDGES_PER_PART", part)
    rng = np.random.default_rng(0)
    number, order = rng.permutation(20_000), rng.permutation(19_999)
    assert (propagated(20_000, number[order], number[order + 1], tmp_path / "c") == 0).all()


def test_stars_of_stars_take_no_more_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst case of hooking to a smaller neighbour: hubs with larger numbers than all that they tie together, an
    edge a part, so that nothing is reduced inside the parts."""
    monkeypatch.setattr(components, "EDGES_PER_PART", 1)
    edges, first, hub = [], list(range(64)), 64
    while len(first) > 1:
        edges += [(node, hub + at // 4) for at, node in enumerate(first)]
        first = list(range(hub, hub + -(-len(first) // 4)))
        hub += len(first)
    left, right = np.array(edges).T
    assert (propagated(hub, left, right, tmp_path / "c") == 0).all()


def test_killed_in_any_round_it_goes_on_to_the_same_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead before the n-th file appears, for every third n; then again, undisturbed; finished parts are not redone."""
    monkeypatch.setattr(components, "EDGES_PER_PART", 40)
    left, right = np.random.default_rng(1).integers(0, 150, (2, 160))
    expected = on_one_node(150, left, right)
    with dying(monkeypatch, 0) as counted:
        propagate(150, left, right, str(tmp_path / "calm"))
    assert counted.calls > 20
    for at in range(1, counted.calls, 3):
        path = str(tmp_path / f"killed-{at}")
        with pytest.raises(Killed), dying(monkeypatch, at):
            propagate(150, left, right, path)
        assert (propagate(150, left, right, path) == expected).all()
