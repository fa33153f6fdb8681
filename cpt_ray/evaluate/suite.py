"""A suite: many tasks, frozen models and what they have to beat, one table of rows, and what became of each query."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts.stage import Stage
from cpt_ray.evaluate.baselines import tfidf_svd, word_vectors
from cpt_ray.evaluate.embed import Embed, checked
from cpt_ray.evaluate.statistics import Figure, interval
from cpt_ray.evaluate.tasks import Task, digest

QUERIES = pa.schema(
    [
        ("task", pa.string()),
        ("method", pa.string()),
        ("query", pa.int32()),
        ("text", pa.string()),
        ("right", pa.string()),
        ("said", pa.string()),
        ("score", pa.float64()),
        ("wanted", pa.float64()),
        ("part", pa.string()),
    ]
)
"""A row for each query of each task and method, of the figure that stands for the task: its text, the right answer and the
one given (their first SHOWN characters), what it scored; of a correlation `score` is the cosine, `wanted` people's,
and `part` the part of the data within which they are correlated."""
SUITE = Stage("suite", version=7, gives=QUERIES, unit="tasks")
UNLABELLED = {"tfidf_svd": tfidf_svd, "word_vectors": word_vectors}
"""Baselines that learn from a task's own texts, by the name of their method."""
SHOWN = 600


def measure(
    tasks: Sequence[Task], models: Mapping[str, Embed], done: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """A row per task and method: task, kind, method, metric, value, all scores, seconds, and the data's digest; where the
    task tells its queries apart, also how many `queries` and the 95 % interval `low` to `high`. All data is read before
    anything is measured: a line that is none ends no work of hours."""
    for task in tasks:
        task.texts()
    rows = []
    for title, task in zip(titles(tasks), tasks, strict=True):
        data = digest(task)
        for method, seconds, scores in _methods(task, models):
            value = scores[task.metric]
            rows.append(
                {
                    "task": title,
                    "kind": getattr(task, "kind", ""),
                    "method": method,
                    "metric": task.metric,
                    "value": value,
                    **_sure(value),
                    "scores": scores,
                    "seconds": round(seconds, 3),
                    "data": data,
                }
            )
        done()
    return rows


def titles(tasks: Sequence[Task]) -> list[str]:
    """The tasks' titles; a further task of the same title has a number."""
    seen: Counter[str] = Counter()
    found = []
    for task in tasks:
        seen[task.title] += 1
        found.append(task.title if seen[task.title] == 1 else f"{task.title} ({seen[task.title]})")
    return found


def by_query(tasks: Sequence[Task], rows: Sequence[dict[str, Any]]) -> pa.Table:
    """What `measure(tasks, ...)` found, query by query (QUERIES)."""
    tables = [QUERIES.empty_table()]
    for title, task in zip(titles(tasks), tasks, strict=True):
        items: list[tuple[str, str]] = getattr(task, "items", list)()
        for row in rows:
            if row["task"] == title and isinstance(row["value"], Figure):
                tables.append(_queries(title, row["method"], row["value"], items))
    return pa.concat_tables(tables)


def figure(queries: pa.Table, task: str, method: str) -> Figure:
    """What `measure` computed, again from the rows of the queries. KeyError where there are none."""
    asked = pc.and_(pc.equal(queries.column("task"), task), pc.equal(queries.column("method"), method))
    rows = queries.filter(asked)
    if not rows.num_rows:
        raise KeyError((task, method))
    score, wanted = rows.column("score").to_numpy(), rows.column("wanted")
    each = score if wanted.null_count else np.stack([score, wanted.to_numpy()], axis=1)
    part = rows.column("part")
    return Figure.of(each, rows.column("said").to_pylist(), () if part.null_count else part.to_pylist())


def _sure(value: float) -> dict[str, Any]:
    if not isinstance(value, Figure):
        return {}
    low, high = interval(value)
    return {"low": low, "high": high, "queries": len(value.each)}


def _queries(task: str, method: str, value: Figure, items: Sequence[tuple[str, str]]) -> pa.Table:
    n = len(value.each)
    texts, right = zip(*items, strict=True) if len(items) == n else ([""] * n, [""] * n)
    scores = value.each if value.each.ndim == 1 else value.each[:, 0]
    columns = [
        [task] * n,
        [method] * n,
        np.arange(n, dtype=np.int32),
        *(
            pa.array([text[:SHOWN] for text in column], pa.string())
            for column in (texts, right, value.said or [""] * n)
        ),
        scores,
        [None] * n if value.each.ndim == 1 else value.each[:, 1],
        value.parts or [None] * n,
    ]
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, QUERIES, strict=True)], QUERIES)


def _methods(task: Task, models: Mapping[str, Embed]) -> Iterator[tuple[str, float, dict[str, float]]]:
    """(method, seconds, scores): the models first."""
    for name, embed in models.items():
        started = time.monotonic()
        scores = task.scores(checked(embed))
        yield name, time.monotonic() - started, scores
    for method, learn in UNLABELLED.items():
        started = time.monotonic()
        scores = task.scores(learn(task.texts()))
        yield method, time.monotonic() - started, scores
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
