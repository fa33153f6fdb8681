"""A suite: many tasks, frozen models and what they have to beat, one table of rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cpt_ray.artifacts.stage import Stage
from cpt_ray.evaluate.baselines import tfidf_svd
from cpt_ray.evaluate.embed import Embed
from cpt_ray.evaluate.tasks import Task, digest

SUITE = Stage("suite", version=3, unit="tasks")
TFIDF = "tfidf_svd"


def measure(
    tasks: Sequence[Task], models: Mapping[str, Embed], done: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """A row per task and method: task, kind, method, metric, value, all scores, seconds, and the data's digest."""
    rows = []
    for task in tasks:
        data = digest(task)
        for method, seconds, scores in _methods(task, models):
            rows.append(
                {
                    "task": task.title,
                    "kind": getattr(task, "kind", ""),
                    "method": method,
                    "metric": task.metric,
                    "value": scores[task.metric],
                    "scores": scores,
                    "seconds": round(seconds, 3),
                    "data": data,
                }
            )
        done()
    return rows


def _methods(task: Task, models: Mapping[str, Embed]) -> Iterator[tuple[str, float, dict[str, float]]]:
    """(method, seconds, scores): the models first."""
    for name, embed in models.items():
        started = time.monotonic()
        scores = task.scores(embed)
        yield name, time.monotonic() - started, scores
    started = time.monotonic()
    scores = task.scores(tfidf_svd(task.texts()))
    yield TFIDF, time.monotonic() - started, scores
    for method, scores in task.fixed().items():
        yield method, 0.0, scores


def average(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """{kind: {method: mean of the main figures}}: tasks of one kind are averaged, kinds never mixed."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    methods = dict.fromkeys(row["method"] for row in rows)
    found: dict[str, dict[str, float]] = {}
    for kind in kinds:
        for method in methods:
            values = [row["value"] for row in rows if (row["kind"], row["method"]) == (kind, method)]
            if values:
                found.setdefault(kind, {})[method] = float(np.mean(values))
    return found
