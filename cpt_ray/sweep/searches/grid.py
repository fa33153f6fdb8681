"""Every combination of the values."""

from __future__ import annotations

from typing import Literal

from cpt_ray.sweep.axes import Axes, Values, product
from cpt_ray.sweep.searches import Kind


class Grid(Kind):
    """Every combination of the values given; each trial sees all examples."""

    kind: Literal["grid"] = "grid"

    def points(self, axes: Axes) -> list[Values]:
        return product(axes)
