"""Points drawn at random: with several keys they try more values of the one that matters than a grid does
(Bergstra and Bengio 2012)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cpt_ray.sweep.axes import Axes, Values, draw
from cpt_ray.sweep.searches import Kind


class Random(Kind):
    """Points drawn from lists and ranges; each trial sees all examples."""

    kind: Literal["random"] = "random"
    trials: int = Field(8, ge=1, description="points drawn, no two equal; more of them keep the first ones")
    seed: int = Field(0, ge=0, description="seed of the draw")

    def points(self, axes: Axes) -> list[Values]:
        return draw(axes, self.trials, self.seed)
