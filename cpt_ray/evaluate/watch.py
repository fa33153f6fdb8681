"""Tasks that are measured as training goes on (train/watched.py): of each the figure that stands for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpt_ray.evaluate.tasks import Task

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed


@dataclass(frozen=True)
class Watch:
    """Picklable; `names` has one for each of the tasks, such as `TREC_accuracy`, which MLflow takes as a metric's."""

    tasks: tuple[Task, ...]

    @property
    def names(self) -> Sequence[str]:
        seen: Counter[str] = Counter()
        found = []
        for task in self.tasks:
            name = f"{re.sub(r'[^A-Za-z0-9.-]+', '_', task.title)}_{task.metric}"
            seen[name] += 1
            found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
        return found

    def __call__(self, embed: Embed) -> dict[str, float]:
        return {name: float(task.scores(embed)[task.metric]) for name, task in zip(self.names, self.tasks, strict=True)}
