"""Evaluation tasks, a file each: labelled data of one layout, and what a frozen model scores on it.

A task is a class of options with `kind` (kinds.py) and

- `metric`: the name of the figure that stands for the task,
- `files()`: the files it reads, which are its identity,
- `texts()`: what a baseline without labels may learn from,
- `scores(embed)`: {metric: value} of a model, a function as `evaluate.embed.Embed` describes it,
- `fixed()`: {method: {metric: value}} of what needs no vectors, such as BM25 and chance,
- maybe `items()`: (text, right answer) of each query.

A value that is a `statistics.Figure`, which knows what each query scored, gets an interval, can be tested against
another model's and is shown query by query; a plain number is a number.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from cpt_ray.errors import UserError

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed

Scores = dict[str, float]


class Task(Protocol):
    """What a module of this folder gives."""

    metric: ClassVar[str]

    @property
    def title(self) -> str: ...

    def files(self) -> list[Path]: ...

    def texts(self) -> list[str]: ...

    def scores(self, embed: Embed) -> Scores: ...

    def fixed(self) -> dict[str, Scores]: ...


def digest(task: Task) -> str:
    """32 hex digits of the content of the task's files; UserError for one that is not there."""
    state = hashlib.sha256()
    for path in task.files():
        if not path.is_file():
            raise UserError(
                f"{task.title} has no such file", where=str(path), fix="see docs/analyst.md for the layouts"
            )
        with path.open("rb") as source:
            state.update(hashlib.file_digest(source, "sha256").digest())
    return state.hexdigest()[:32]
