"""What an artifact was made of, found again among the artifacts beside it by digest."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from cpt_ray.artifacts import Manifest, read_manifest
from cpt_ray.artifacts.places import locate
from cpt_ray.artifacts.store import MANIFEST, PHASES
from cpt_ray.errors import UserError


@dataclass(frozen=True)
class Made:
    """An artifact: where it is, its manifest, and its inputs by name; an input that is not found here is left out."""

    path: str
    manifest: Manifest
    inputs: dict[str, Made]

    @property
    def name(self) -> str:
        return posixpath.basename(self.path.rstrip("/"))

    @property
    def on_the_way(self) -> bool:
        """Whether it only serves another, and lies in its phases."""
        return posixpath.dirname(self.path).endswith(PHASES)

    def flow(self) -> list[Made]:
        """This and everything it was made of, each once, what was made first in front."""
        found: dict[str, Made] = {}
        for made in self.inputs.values():
            found |= {one.path: one for one in made.flow()}
        found[self.path] = self
        return list(found.values())

    def of(self, step: str) -> Made | None:
        """The artifact of that step nearest before this one, this one included."""
        return next((one for one in reversed(self.flow()) if one.manifest.step == step), None)


def lineage(path: str) -> Made:
    """The artifact at `path` with what it was made of. UserError where there is none."""
    path = path.rstrip("/")
    known = {manifest.digest: place for place, manifest in _beside(path)}
    return _made(path, read_manifest(path), known)


def _made(path: str, manifest: Manifest, known: dict[str, str]) -> Made:
    here = {name: known[digest] for name, digest in manifest.inputs.items() if known.get(digest, path) != path}
    return Made(path, manifest, {name: _made(place, read_manifest(place), known) for name, place in here.items()})


def _beside(path: str) -> Iterator[tuple[str, Manifest]]:
    """The artifacts of the folder that `path` lies in, and of those on the way to them."""
    fs, target = locate(path)
    folder = posixpath.dirname(target)
    names = fs.ls(folder, detail=False) if fs.exists(folder) else []
    ways = [inner for name in names if name.rstrip("/").endswith(PHASES) for inner in fs.ls(name, detail=False)]
    for name in sorted([*names, *ways]):
        if not fs.exists(posixpath.join(name, MANIFEST)):
            continue
        place = posixpath.join(posixpath.dirname(path), posixpath.relpath(name, folder))
        try:
            yield place, read_manifest(place)
        except (UserError, ValidationError):  # gone meanwhile, or of another version
            continue
