"""Tasks that are measured as training goes on (train/watched.py): of each the figure that stands for it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cpt_ray.evaluate.named import is_name
from cpt_ray.evaluate.tasks import Task

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed

PLACES = ("folder", "file", "pairs")
"""Keys of tasks whose value is a path, or a name."""


@dataclass(frozen=True)
class Watch:
    """Picklable; `names` has one for each of the tasks, such as `TREC_accuracy`, which MLflow takes as a metric's. Paths are
    those of the folder `home`, wherever it is called: a worker of Ray has a working directory of its own."""

    tasks: tuple[Task, ...]
    home: str = field(default_factory=os.getcwd)

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
        from cpt_ray.evaluate.embed import checked

        embed = checked(embed)
        placed = map(self._placed, self.tasks)
        return {name: float(task.scores(embed)[task.metric]) for name, task in zip(self.names, placed, strict=True)}

    def _placed(self, task: Any) -> Any:
        values = {name: getattr(task, name, None) for name in PLACES}
        paths = {name: value for name, value in values.items() if isinstance(value, str) and not is_name(value)}
        update = {name: os.path.join(self.home, path) for name, path in paths.items()}
        return task.model_copy(update=update) if update else task
