"""Trials: what one trains with, put together of what all have in common and its own values."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.options import Options
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.sweep.axes import Range, Values, draw, product, short
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.train.options import TrainOptions, check_divisible, check_engine

BATCHES = "batches"
EQUAL = ("train.steps", "train.checkpoint_every", "batches.steps", "batches.epochs")
INITIAL = ("model.init", "model.revision")
LONGEST_NAME = 120
"""Characters of a trial's name; it is the name of a folder."""
LOOKED_AT = 64
"""Points that are looked at before anything starts, where which will be trained is not known yet."""


@dataclass(frozen=True)
class Setting:
    """What a training needs to be told."""

    train: TrainOptions
    batches: BatchOptions
    model: ModelOptions


@dataclass(frozen=True)
class Trial:
    """One point: its values by key, and the setting that they make of the common one."""

    name: str
    values: Values
    setting: Setting

    @property
    def batch_size(self) -> int:
        return self.setting.batches.batch_size

    @property
    def steps(self) -> int:
        return int(self.setting.train.steps or 0)

    @property
    def examples(self) -> int:
        return self.batch_size * self.steps

    @property
    def order(self) -> str:
        """The name of its order of batches: trials that differ in other things share it."""
        return "-".join([BATCHES, *_parts({k: v for k, v in self.values.items() if k.startswith(f"{BATCHES}.")})])

    @property
    def short(self) -> dict[str, Any]:
        """Its values by the names that they go by in tables."""
        names = short(self.values)
        return {names[key]: value for key, value in self.values.items()}

    @property
    def params(self) -> dict[str, Any]:
        """What it is compared by, under equal names in every trial: what is varied, batch size, temperature and steps."""
        always = {"batch_size": self.batch_size, "temperature": self.setting.train.temperature, "steps": self.steps}
        return {**always, **self.short}


def make_trial(values: Values, options: SweepOptions, common: Setting) -> Trial:
    """The trial at a point. UserError, whose `where` is the key, for values that cannot be trained with."""
    sections: dict[str, Options] = {"train": common.train, BATCHES: common.batches, "model": common.model}
    plain: dict[str, Any] = {name: section.model_dump() for name, section in sections.items()}
    for key, value in values.items():
        _check_key(key, plain)
        at = plain
        *path, last = key.split(".")
        for part in path:
            at = at[part]
        at[last] = value
    made = {name: _validated(name, type(section), plain[name]) for name, section in sections.items()}
    size = made[BATCHES].batch_size
    if options.examples % size:
        raise UserError(
            f"{options.examples:,} examples are not a whole number of batches of {size:,}",
            where="examples",
            fix="choose a multiple of every batch size, so that all trials see equally many pairs",
        )
    steps = options.examples // size
    train = made["train"].model_copy(update={"steps": steps, "checkpoint_every": steps})
    try:
        check_engine(train, "train")
        check_divisible(train, size, "batches.batch_size")
    except UserError as error:
        where = f"over.{error.where}" if error.where in values else error.where
        raise UserError(error.what, where=where, fix=error.fix) from error
    batches = made[BATCHES].model_copy(update={"steps": steps})
    return Trial("-".join(_parts(values)), values, Setting(train, batches, made["model"]))


def known_trials(options: SweepOptions, common: Setting) -> list[Trial]:
    """Those that are known before any is trained, in order. UserError for a sweep that cannot be trained; where the points
    are not known yet, some are looked at."""
    axes = options.axes
    for key, axis in axes.items():
        if key.startswith(f"{BATCHES}.") and isinstance(axis, Range):
            raise UserError(
                "orders of batches are made before the trials", where=f"over.{key}", fix="give a list of values"
            )
    points = options.search.points(axes)
    known = [make_trial(point, options, common) for point in points]
    if not points:
        some_trials(options, common)
    return known


def some_trials(options: SweepOptions, common: Setting) -> list[Trial]:
    """A few of those that there may be, drawn at random."""
    return [make_trial(point, options, common) for point in draw(options.axes, LOOKED_AT, 0)]


def orders(options: SweepOptions, common: Setting) -> dict[str, BatchOptions]:
    """By name, the orders of batches that trials may ask for."""
    inner = {key: axis for key, axis in options.axes.items() if key.startswith(f"{BATCHES}.")}
    trials = [make_trial(point, options, common) for point in product(inner)]
    return {trial.order: trial.setting.batches for trial in trials}


def _check_key(key: str, plain: Mapping[str, Any]) -> None:
    if key in EQUAL:
        raise UserError(
            "all trials see equally many pairs", where=f"over.{key}", fix="give `examples`; steps follow from it"
        )
    if key in INITIAL:
        raise UserError(
            "batches are in the tokens of the first weights, which all trials share",
            where=f"over.{key}",
            fix="run a sweep for each",
        )
    at: Any = plain
    for number, part in enumerate(parts := key.split(".")):
        last = number == len(parts) - 1
        if not isinstance(at, Mapping) or (part not in at and not (last and key.startswith("train.deepspeed."))):
            close = difflib.get_close_matches(part, at if isinstance(at, Mapping) else (), n=2, cutoff=0.5)
            before = ".".join(parts[:number])
            raise UserError(
                f"there is no such key{' of ' + before if before else ''}",
                where=f"over.{key}",
                fix=f"did you mean {' or '.join(close)}?" if close else "see --help of `train` for the keys",
            )
        at = at[part] if not last else None


def _validated(section: str, options: type[Any], plain: Mapping[str, Any]) -> Any:
    try:
        return options.model_validate(plain)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join([section, *map(str, detail["loc"])])
        raise UserError(
            f"{detail['msg'].removeprefix('Value error, ')} (it is {detail['input']!r})",
            where=f"over.{key}",
            fix="give values that `train` takes",
        ) from error


def _parts(values: Values) -> list[str]:
    """`batch_size-256`, `temperature-0.05`: for names of folders."""
    names = short(values)
    parts = [f"{names[key]}-{_slug(value)}" for key, value in values.items()]
    whole = "-".join(parts)
    if len(whole) <= LONGEST_NAME:
        return parts
    return [whole[:LONGEST_NAME], _digest(whole)]


def _slug(value: Any) -> str:
    """The value in characters of a file's name; with a digest where others would look alike."""
    text = value if isinstance(value, str) else json.dumps(value)
    slug = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-")
    return slug if slug == text else f"{slug}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
