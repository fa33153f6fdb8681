"""Axes of a sweep: which keys are varied and over which values, and points drawn from them."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from cpt_ray.errors import UserError
from cpt_ray.options import Options

DIGITS = 4
"""Significant digits of a drawn number: as many as its trial's name has."""
MOST = 10_000
"""Trials of a grid: more are a mistake."""


class Range(Options):
    """Numbers between two, both included."""

    low: float = Field(description="the lowest")
    high: float = Field(description="the highest")
    log: bool = Field(False, description="draw evenly in the logarithm, as suits a learning rate")
    whole: bool = Field(False, description="whole numbers alone; both ends are such")

    @model_validator(mode="after")
    def _between(self) -> Range:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("a range of whole numbers begins and ends with one")
        return self

    def at(self, share: float) -> float:
        """The number at `share`, from 0 to 1, of the way from low to high."""
        return self.near(
            self.low * (self.high / self.low) ** share if self.log else self.low + (self.high - self.low) * share
        )

    def near(self, number: float) -> float:
        """`number` as it is trained with: whole if it must be, else of DIGITS digits."""
        if self.whole:
            return round(number)
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)


Axis = list[Any] | Range
Axes = dict[str, Axis]
"""By key, such as train.learning_rate."""
Values = dict[str, Any]
"""A point: one value for each key of the axes."""


def axes_of(over: Mapping[str, Any]) -> Axes:
    """{"train": {"learning_rate": [1e-3, 3e-3]}} -> {"train.learning_rate": [1e-3, 3e-3]}; UserError for what is neither a
    list of values nor a range."""
    return dict(_leaves(over, ""))


def _leaves(over: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Axis]]:
    for name, value in over.items():
        key = f"{prefix}{name}"
        if isinstance(value, list | tuple) and value:
            yield key, _distinct(value)
        elif isinstance(value, Mapping) and {"low", "high"} & set(value):
            try:
                yield key, Range.model_validate(value)
            except ValidationError as error:
                what = error.errors()[0]
                at = ".".join(map(str, what["loc"]))
                raise UserError(
                    f"{at + ': ' if at else ''}{what['msg'].removeprefix('Value error, ')}",
                    where=f"over.{key}",
                    fix="a range is {low: 1.0e-4, high: 1.0e-2, log: true}",
                ) from error
        elif isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            raise UserError(
                f"what it is varied over is {json.dumps(value)}",
                where=f"over.{key}",
                fix="give a list of values, or a range {low: 1.0e-4, high: 1.0e-2, log: true}",
            )


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({json.dumps(value): value for value in values}.values())


def product(axes: Axes) -> list[Values]:
    """All points of axes that are lists, the last key's values running fastest. UserError for a range, and for more than
    MOST."""
    for key, axis in axes.items():
        if isinstance(axis, Range):
            raise UserError(
                "a grid has no ranges", where=f"over.{key}", fix="give a list of values, or search.kind=random"
            )
    lists = {key: axis for key, axis in axes.items() if isinstance(axis, list)}
    if (count := math.prod(map(len, lists.values()))) > MOST:
        raise UserError(f"a grid of {count:,} trials", where="over", fix="give fewer values, or search.kind=random")
    return [dict(zip(lists, point, strict=True)) for point in itertools.product(*lists.values())]


def draw(axes: Axes, count: int, seed: int) -> list[Values]:
    """`count` points drawn by `seed`, no two equal; fewer where the axes have no more. The first points of a larger count are
    those of a smaller one."""
    chance = random.Random(seed)
    found: dict[str, Values] = {}
    there = min(count, math.prod(len(axis) if isinstance(axis, list) else count for axis in axes.values()))
    for _ in range(100 * count):
        if len(found) == there:
            break
        point = {
            key: axis.at(chance.random()) if isinstance(axis, Range) else chance.choice(axis)
            for key, axis in axes.items()
        }
        found.setdefault(json.dumps(point), point)
    return list(found.values())


def short(keys: Iterable[str]) -> dict[str, str]:
    """By key the name it goes by in tables: its last part where no other key ends alike."""
    keys = list(keys)
    last = [key.rpartition(".")[2] for key in keys]
    times = Counter(last)
    return {key: name if times[name] == 1 else key for key, name in zip(keys, last, strict=True)}
