"""A git bundle: a repository as one file, whose objects are unpacked into a temporary folder while it is read."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from cpt_ray.code.readers.git import Repository, died_of, surroundings
from cpt_ray.errors import UserError

ENDINGS = (".bundle",)
REVISIONS = True


def holds(path: str) -> bool:
    return path.lower().endswith(ENDINGS) and os.path.isfile(path)


@contextmanager
def opened(path: str, revision: str, *_: object) -> Iterator[Repository]:
    with tempfile.TemporaryDirectory(prefix="cpt-ray-bundle-") as folder:
        # `clone` makes a repository of the bundle's kind of hash, and takes its HEAD over.
        words = ["git", "clone", "-q", "--bare", "--template=", "--", os.path.abspath(path), folder]
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, env=surroundings())
        if done.returncode:
            why = died_of(done.stderr) or "no reason given"
            raise UserError(f"git cannot read this bundle: {why}", where=path, fix="see git bundle verify")
        with Repository(folder, revision or "HEAD") as repository:
            yield repository
