"""What is measured: a function from texts and their side to vectors."""

from __future__ import annotations

from typing import Protocol

from cpt_ray.model.options import Side
from cpt_ray.ranking import Floats


class Embed(Protocol):
    """A frozen model: texts to L2-normalised float32 (N, D); the sides x and y have delimiters of their own."""

    def __call__(self, texts: list[str], side: Side) -> Floats: ...
