"""Every module of `compat` is true for the version that is pinned and installed."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import version

import pytest

import cpt_ray.compat

LIBRARIES = [one.name for one in pkgutil.iter_modules(cpt_ray.compat.__path__)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_version_is_the_one_that_was_looked_at(library: str) -> None:
    said = importlib.import_module(f"cpt_ray.compat.{library}").VERSION
    installed = version(library).split("+")[0]
    assert installed == said, (
        f"{library} {installed} is installed, and cpt_ray/compat/{library}.py is true for {said}: run tests/compat and"
        f" the tests of the rooms that use it, read {library}'s changes to what the module names, then set VERSION"
    )
