"""An index that grows while it is searched: what stands at a place is looked at again, and taken in when it has changed.

A place is an index, or a folder of indexes: `<place>/*` or `<place>/*/index`, as nights of a corpus lie. Artifacts appear
whole or not at all, so a new one is added by being built there, an old one leaves by being removed, and nothing is built
again. What is open stays searchable until the next is open: files that are mapped remain when they are removed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cpt_ray.artifacts.store import BUILDING, MANIFEST, read_manifest
from cpt_ray.errors import UserError
from cpt_ray.serve.indexes import Index

log = logging.getLogger("cpt_ray")

LOOK_SECONDS = 2.0
"""A place is looked at no more often."""
STEP = "index"
"""What makes an index is called so."""


def indexes_at(place: str) -> list[str]:
    """The published indexes there, by name. UserError where there is none."""
    if Path(place, MANIFEST).is_file():
        if (step := read_manifest(place).step) != STEP:
            raise UserError(f"this is no index but {step}", where=place, fix="make an index of it with `cpt-ray embed`")
        return [place]
    inside = [*Path(place).glob(f"*/{MANIFEST}"), *Path(place).glob(f"*/index/{MANIFEST}")]
    folders = sorted(str(manifest.parent) for manifest in inside if BUILDING not in manifest.parts[-2])
    found = [folder for folder in folders if read_manifest(folder).step == STEP]
    if not found:
        raise UserError("there is no index here", where=place, fix="make one with `cpt-ray embed`")
    return found


class Following:
    """`index` is what was open last; `look` opens what stands at `place` now, if that is another."""

    def __init__(self, place: str, opened: Callable[[str], Index]) -> None:
        self._place, self._opened = place, opened
        self._stood, self._looked = _standing(place), time.monotonic()
        self.index, self._said = opened(place), ""

    def look(self) -> Index:
        """What cannot be opened, as in the moment in which an artifact is replaced, or one of another model, is said in the
        log, and the index stays what it was."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return self.index
        self._looked = time.monotonic()
        try:
            if (stands := _standing(self._place)) == self._stood:
                return self.index
            found = self._opened(self._place)
            first = found.vectors_of(np.zeros(1, np.int64))
            if first is not None:  # what is opened by the first search is opened before its files may go
                found.search(np.asarray(first, np.float32), 1)
            self._stood, self.index, self._said = stands, found, ""
            log.info("%s: %d rows are searched now", self._place, found.rows.num_rows)
        except (OSError, UserError) as error:
            if str(error) != self._said:
                log.warning("%s has changed and is not taken in: %s", self._place, error)
            self._said = str(error)
        return self.index


def _standing(place: str) -> list[tuple[str, int, int]]:
    """What tells an index from another that stood under its name."""
    found = []
    for folder in indexes_at(place):
        told = os.stat(os.path.join(folder, MANIFEST))
        found.append((folder, told.st_ino, told.st_mtime_ns))
    return found
