"""Asynchronous successive halving (Li et al., arXiv 1810.05934): random points, of which the worse are stopped early."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cpt_ray.sweep.axes import Axes, Values, draw
from cpt_ray.sweep.searches import Goal, Kind


class ASHA(Kind):
    """Points drawn at random. At `first` examples, and at each multiple by `reduction`, a trial goes on only if it is among
    the best 1 of `reduction` of those that came so far; the figures are those of train.evaluate_every."""

    kind: Literal["asha"] = "asha"
    trials: int = Field(8, ge=1, description="points drawn, no two equal; more of them keep the first ones")
    seed: int = Field(0, ge=0, description="seed of the draw")
    reduction: int = Field(3, ge=2, description="one of so many goes on")
    first: int | None = Field(
        None, ge=1, description="pairs that a trial sees before it may be stopped; null: examples / reduction^2"
    )

    def points(self, axes: Axes) -> list[Values]:
        return draw(axes, self.trials, self.seed)

    def tune(self, goal: Goal) -> dict[str, Any]:
        from ray.tune.schedulers import ASHAScheduler

        first = min(self.first or max(goal.examples // self.reduction**2, 1), goal.examples)
        return {
            "scheduler": ASHAScheduler(
                time_attr="examples",
                metric=goal.metric,
                mode=goal.mode,
                max_t=goal.examples,
                grace_period=first,
                reduction_factor=self.reduction,
            )
        }
