"""Seams: a folder of modules is a choice, each module one kind of the same thing.

A module of such a folder holds one class of options with a field `kind`, a Literal of its name, and methods that do the
work. A new file is a new choice, on the command line and in `--help`, and no other file is touched.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import reduce
from operator import or_
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from cpt_ray.options import Options


def modules(package: str) -> dict[str, ModuleType]:
    """The modules of `package` (a dotted name) by their names, in order of these."""
    names = sorted(one.name for one in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def kinds(package: str) -> dict[str, type[Options]]:
    """The options class of every module of `package` (a dotted name), by its kind, in order of the names."""
    found: dict[str, type[Options]] = {}
    for loaded in modules(package).values():
        for value in vars(loaded).values():
            own = isinstance(value, type) and issubclass(value, Options) and value.__module__ == loaded.__name__
            if own and "kind" in value.model_fields:
                found[str(value.model_fields["kind"].default)] = value
    return found


def one_of(package: str) -> Any:
    """The type of an option that is one of the kinds of `package`, told apart by its key `kind`."""
    several = list(kinds(package).values())
    # pydantic has no union of one
    return Annotated[reduce(or_, several), Field(discriminator="kind")] if len(several) > 1 else several[0]
