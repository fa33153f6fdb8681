"""Optuna's tree-structured Parzen estimator: each point follows from the figures of those before."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from cpt_ray.sweep.axes import Axes, Range, Values
from cpt_ray.sweep.searches import Goal, Kind


class Optuna(Kind):
    """Points that Optuna proposes after the figures of the finished ones, the first ten at random; each trial sees all
    examples."""

    kind: Literal["optuna"] = "optuna"
    trials: int = Field(16, ge=1, description="points proposed")
    seed: int = Field(0, ge=0, lt=1 << 31, description="seed of the proposals")

    @model_validator(mode="after")
    def _installed(self) -> Optuna:
        if importlib.util.find_spec("optuna") is None:
            raise ValueError("optuna is not installed: pip install 'cpt-ray[optuna]'")
        return self

    def points(self, axes: Axes) -> list[Values]:
        return []

    def count(self, axes: Axes) -> int:
        return self.trials

    def tune(self, goal: Goal) -> dict[str, Any]:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = OptunaSearch(
            space={key: _distribution(axis) for key, axis in goal.axes.items()},
            metric=goal.metric,
            mode=goal.mode,
            points_to_evaluate=[_told(goal.axes, point) for point in goal.begun],
            # A seed gives the same first points again, and these have been trained when a sweep goes on.
            seed=self.seed + len(goal.finished) + len(goal.begun),
        )
        for point, score in goal.finished:
            search.add_evaluated_point(_told(goal.axes, point), score)
        return {"search_alg": search}

    def values(self, axes: Axes, config: Mapping[str, Any]) -> Values:
        return {
            key: axis.near(config[key]) if isinstance(axis, Range) else axis[config[key]] for key, axis in axes.items()
        }


def _distribution(axis: list[Any] | Range) -> Any:
    """A list by its positions: Optuna's categories are plain values, and an option may be a mapping."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(axis, Range):
        return CategoricalDistribution(range(len(axis)))
    if axis.whole:
        return IntDistribution(round(axis.low), round(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _told(axes: Axes, values: Values) -> dict[str, Any]:
    """A point in Optuna's terms; the inverse of `Optuna.values`."""
    return {key: value if isinstance(axis := axes[key], Range) else axis.index(value) for key, value in values.items()}
