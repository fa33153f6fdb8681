"""What is varied, by any key: points, their names, and what is refused before anything starts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cpt_ray.sweep.searches
from cpt_ray.errors import UserError
from cpt_ray.kinds import kinds, one_of
from cpt_ray.model.options import ModelOptions
from cpt_ray.options import Options
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.sweep.axes import Range, axes_of, draw, product, short
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.searches.grid import Grid
from cpt_ray.sweep.searches.optuna import Optuna
from cpt_ray.sweep.searches.random import Random
from cpt_ray.sweep.trials import Setting, known_trials, make_trial, orders
from cpt_ray.train.options import TrainOptions

PACKAGE = "cpt_ray.sweep.searches"
COMMON = Setting(TrainOptions(workers=0), BatchOptions(batch_size=32), ModelOptions())


def sweep(over: dict[str, Any], **more: Any) -> SweepOptions:
    return SweepOptions(over=over, examples=1024, **more)


def test_axes_are_lists_and_ranges_by_key() -> None:
    over = {"train": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "clip": [1, 1, 0.5]}}
    assert axes_of(over) == {
        "train.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "train.clip": [1, 0.5],
    }


@pytest.mark.parametrize(
    ("over", "where"),
    [
        ({"train": {"clip": []}}, "over.train.clip"),
        ({"train": {"clip": 3}}, "over.train.clip"),
        ({"train": {}}, "over.train"),
        ({"train": {"clip": {"low": 2, "high": 1}}}, "over.train.clip"),
        ({"train": {"clip": {"low": 0, "high": 1, "log": True}}}, "over.train.clip"),
        ({"train": {"clip": {"low": 0}}}, "over.train.clip"),
        ({"train": {"seed": {"low": 0.5, "high": 3.5, "whole": True}}}, "over.train.seed"),
        ({"train": {"clip": {"low": 0, "high": 1, "lob": True}}}, "over.train.clip"),
        ({"train": {"learning_rat": [1]}}, "over.train.learning_rat"),
        ({"train": {"loss": {"king": ["x"]}}}, "over.train.loss.king"),
        ({"model": {"init": ["a", "b"]}}, "over.model.init"),
        ({"trains": {"clip": [1]}}, "over.trains.clip"),
        ({"train": {"learning_rate": [0]}}, "over.train.learning_rate"),
        ({"train": {"steps": [1]}}, "over.train.steps"),
        ({"batches": {"epochs": [1]}}, "over.batches.epochs"),
        ({"batches": {"batch_size": {"low": 8, "high": 16}}}, "over.batches.batch_size"),
        ({"batches": {"batch_size": [8, 24]}}, "examples"),
        ({"train": {"temperature": [0.001]}}, "over.train.temperature"),
        ({"train": {"learning_rate": {"low": 1e-4, "high": 1e-2}}}, "over.train.learning_rate"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_key(over: dict[str, Any], where: str) -> None:
    with pytest.raises(UserError) as error:
        known_trials(sweep(over), COMMON)
    assert error.value.where == where


def test_a_range_is_looked_at_before_anything_starts() -> None:
    """Also where points follow from figures: of those that may come, some are tried on."""
    over = {"train": {"temperature": {"low": 0.001, "high": 2.0}}}
    for search in (Random(), Optuna()):
        with pytest.raises(UserError, match="starts at"):
            known_trials(sweep(over, search=search), COMMON)


def test_any_key_becomes_what_a_trial_trains_with() -> None:
    """Of the training, its batches and the model; the loss by kind too. What all have in common stays."""
    over = {
        "train": {"loss": [{"kind": "infonce"}, {"kind": "one_way"}], "chunk_tokens": [4096]},
        "batches": {"max_y_tokens": [40, 60]},
        "model": {"start": {"reset_layers": [1]}},
    }
    found = known_trials(sweep(over), COMMON)
    assert [(t.setting.train.loss.kind, t.setting.batches.max_y_tokens) for t in found] == [
        ("infonce", 40),
        ("infonce", 60),
        ("one_way", 40),
        ("one_way", 60),
    ]
    assert {t.setting.model.start.reset_layers for t in found} == {1}
    assert {t.setting.train.chunk_tokens for t in found} == {4096}
    assert {t.examples for t in found} == {1024}
    assert len({t.name for t in found}) == 4
    assert (
        {t.order for t in found}
        == set(orders(sweep(over), COMMON))
        == {
            "batches-max_y_tokens-40",
            "batches-max_y_tokens-60",
        }
    )
    assert all(t.params["batch_size"] == 32 and t.params["steps"] == 32 for t in found)


def test_names_are_of_one_folder_each() -> None:
    """Readable where values are; told apart by a digest where their characters are no file's, or are too many."""
    base = sweep({"train": {"seed": [0]}})
    plain = make_trial({"train.learning_rate": 0.001, "batches.batch_size": 64}, base, COMMON)
    assert plain.name == "learning_rate-0.001-batch_size-64"
    both = make_trial({"train.seed": 1, "batches.seed": 2}, base, COMMON)
    assert both.name == "train.seed-1-batches.seed-2"
    names = {make_trial({"batches.weights": weights}, base, COMMON).name for weights in ({"a b": 1}, {"a-b": 1})}
    assert len(names) == 2
    longest = {"batches.weights": {f"source{i}": 1.0 for i in range(60)}}
    assert len(make_trial(longest, base, COMMON).name) < 200


@given(st.integers(1, 40), st.integers(0, 5), st.floats(1e-6, 1.0), st.floats(1.1, 1e6), st.booleans(), st.booleans())
def test_drawn_points_are_distinct_within_bounds_and_begin_alike(
    count: int, seed: int, low: float, factor: float, log: bool, whole: bool
) -> None:
    low = 1 + round(low * 10) if whole else low
    high = low + 100 if whole else low * factor
    axes = {"a": Range(low=low, high=high, log=log, whole=whole), "b": [1, "x", None, {"kind": "y"}]}
    points = draw(axes, count, seed)
    assert len({str(point) for point in points}) == len(points) == count
    assert all(low <= point["a"] <= high for point in points)
    assert not whole or all(isinstance(point["a"], int) for point in points)
    assert draw(axes, count + 3, seed)[:count] == points


def test_a_small_space_is_drawn_whole_and_ends() -> None:
    axes = axes_of({"train": {"seed": [1, 2, 3]}})
    assert sorted(point["train.seed"] for point in draw(axes, 10, 0)) == [1, 2, 3]
    assert len(product(axes)) == 3
    assert len(draw(axes, 10_000_000, 0)) == 3, "which to look for any longer would take hours"


def test_a_grid_beyond_all_measure_is_refused() -> None:
    axes = axes_of({"train": {f"key{number}": list(range(10)) for number in range(12)}})
    with pytest.raises(UserError, match="a grid of 1,000,000,000,000 trials"):
        product(axes)


def test_short_names_are_last_parts_where_these_differ() -> None:
    assert short(["train.seed", "batches.seed", "train.clip"]) == {
        "train.seed": "train.seed",
        "batches.seed": "batches.seed",
        "train.clip": "clip",
    }


OPPOSITES = '''
"""A kind that a user has added: the ends of the axes alone."""
from typing import Literal
from cpt_ray.sweep.searches import Kind


class Ends(Kind):
    """First and last value of each list, together."""

    kind: Literal["ends"] = "ends"

    def points(self, axes):
        return [{key: axis[end] for key, axis in axes.items()} for end in (0, -1)]
'''


def test_a_new_file_is_a_new_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen by its kind, and no other file is touched."""
    (tmp_path / "ends.py").write_text(OPPOSITES)
    monkeypatch.setattr(cpt_ray.sweep.searches, "__path__", [*cpt_ray.sweep.searches.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.ends", raising=False)
    importlib.invalidate_caches()

    class Chosen(SweepOptions):  # as a process has it that began with the file in the folder
        search: one_of(PACKAGE) = Grid()  # type: ignore[valid-type]

    options = Chosen.model_validate(
        {"over": {"train": {"seed": [1, 2, 3], "clip": [0.5, 1.0]}}, "search": {"kind": "ends"}, "examples": 1024}
    )
    assert [t.values for t in known_trials(options, COMMON)] == [
        {"train.seed": 1, "train.clip": 0.5},
        {"train.seed": 3, "train.clip": 1.0},
    ]
    assert issubclass(kinds(PACKAGE)["ends"], Options)
