"""Ways through the space of a sweep, a file each: which points are trained, and which of them to the end.

A way is a class of options with `kind` (kinds.py) that derives from Kind.
"""

from __future__ import annotations

from abc import abstractmethod
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
    """What a module of this folder gives; as it stands, points that are known beforehand, all trained to the end."""

    kind: str

    @abstractmethod
    def points(self, axes: Axes) -> list[Values]:
        """Those that are known before any is trained, in order; none where each follows from the figures of others."""

    def count(self, axes: Axes) -> int:
        """How many trials there will be."""
        return len(self.points(axes))

    def tune(self, goal: Goal) -> dict[str, Any]:
        """Further arguments of `ray.tune.TuneConfig`: a search algorithm, a scheduler."""
        return {}

    def values(self, axes: Axes, config: Mapping[str, Any]) -> Values:
        """The point that a trial of Tune is to train, from its `config`."""
        return dict(config[POINT])
