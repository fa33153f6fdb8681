"""Ways through the space of a sweep, a file each: which points are trained, and which of them to the end.

A way is a class of options with `kind` (kinds.py), of which these are asked:

- `points(axes)`: the points that are known before any is trained, in their order; none where each follows from figures,
- `count(axes)`: how many trials there will be,
- `tune(goal)`: more arguments of `ray.tune.TuneConfig`: a search algorithm, a scheduler,
- `values(axes, config)`: the point that a trial of Tune is to train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cpt_ray.options import Options
from cpt_ray.sweep.axes import Axes, Values

POINT = "point"
"""The key of Tune's configuration of a trial under which a known point stands."""


@dataclass(frozen=True)
class Goal:
    """What is sought, and what is known of it: `metric` as trials report it, with `examples` beside it; `finished` points
    with their scores, and points that were `begun` and are to be trained again first."""

    axes: Axes
    metric: str
    mode: Literal["max", "min"]
    examples: int
    finished: Sequence[tuple[Values, float]] = ()
    begun: Sequence[Values] = ()


class Kind(Options):
    """Points that are known beforehand, all trained to the end."""

    kind: str

    def points(self, axes: Axes) -> list[Values]:
        raise NotImplementedError

    def count(self, axes: Axes) -> int:
        return len(self.points(axes))

    def tune(self, goal: Goal) -> dict[str, Any]:
        return {}

    def values(self, axes: Axes, config: Mapping[str, Any]) -> Values:
        return dict(config[POINT])
