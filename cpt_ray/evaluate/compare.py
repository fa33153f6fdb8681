"""Two models or more on the same queries: differences with their p, and which queries one wins and loses, with the texts.

The first model is what the others are measured against. Only tasks that all have, over the very same data, are compared;
the others are named. The p's of one model's tasks are corrected for having been asked together (statistics.holm).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from cpt_ray.errors import UserError
from cpt_ray.evaluate.page import page
from cpt_ray.evaluate.statistics import Figure, Paired, holm, merits, paired
from cpt_ray.evaluate.suite import figure

SURE = 0.05


@dataclass(frozen=True)
class Run:
    """A suite as it was published: its name here, the rows and queries of evaluate/suite.py, and what is said of it."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    queries: pa.Table
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """A method of a run, under the name that the tables have."""

    name: str
    run: Run
    method: str

    def row(self, task: str) -> Mapping[str, Any] | None:
        return next((row for row in self.run.rows if (row["task"], row["method"]) == (task, self.method)), None)


@dataclass(frozen=True)
class Query:
    """One on which two models differ: by how much, and what each said."""

    text: str
    right: str
    first: str
    second: str
    scores: tuple[float, float]
    by: float


@dataclass(frozen=True)
class Against:
    """One model against the first, in one task; `adjusted` is p in view of its other tasks."""

    name: str
    paired: Paired
    adjusted: float
    wins: Sequence[Query]
    losses: Sequence[Query]

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.adjusted >= SURE:
            return "no sure difference"
        return "better" if self.paired.difference > 0 else "worse"


@dataclass(frozen=True)
class TaskComparison:
    """One task: its rows by the contenders' names, those of other methods, and each against the first."""

    title: str
    metric: str
    queries: int
    rows: Mapping[str, Mapping[str, Any]]
    baselines: Mapping[str, float]
    against: Sequence[Against]


@dataclass(frozen=True)
class Comparison:
    names: Sequence[str]
    tasks: Sequence[TaskComparison]
    left_out: Mapping[str, str]
    runs: Sequence[Run]


def compare_runs(runs: Sequence[Run], examples: int = 5) -> Comparison:
    """Compare the models of several runs, or the methods of one. UserError where no task is common to all."""
    several = len(runs) > 1
    if several:
        contenders = [Contender(run.name, run, "model") for run in runs]
    else:
        methods = dict.fromkeys(row["method"] for row in runs[0].rows if "low" in row and row["method"] != "chance")
        contenders = [Contender(method.replace("_", "-"), runs[0], method) for method in methods]
    titles = list(dict.fromkeys(row["task"] for run in runs for row in run.rows))
    left_out = {title: why for title in titles if (why := _why_not(title, contenders if several else contenders[:1]))}
    common = [title for title in titles if title not in left_out]
    if not common or len(contenders) < 2:
        raise UserError(
            "nothing to compare" + "".join(f"\n  {title}: {why}" for title, why in left_out.items()),
            where=", ".join(run.name for run in runs),
            fix="run the same suite on the same data for each model",
        )
    tested = {}
    for other in contenders[1:]:
        shared = [title for title in common if other.row(title) is not None]
        pairs = [(_figure(contenders[0], title), _figure(other, title)) for title in shared]
        found = [paired(first, second) for first, second in pairs]
        for title, pair, result, p in zip(shared, pairs, found, holm([one.p for one in found]), strict=True):
            wins, losses = _apart(contenders[0].run.queries, title, contenders[0].method, pair, examples)
            tested[title, other.name] = Against(other.name, result, p, wins, losses)
    tasks = []
    for title in common:
        rows = {one.name: row for one in contenders if (row := one.row(title)) is not None}
        own = rows[contenders[0].name]
        shown = {one.method for one in contenders}
        baselines = {
            row["method"].replace("_", "-"): row["value"]
            for row in runs[0].rows
            if row["task"] == title and row["method"] not in shown
        }
        against = [tested[title, one.name] for one in contenders[1:] if (title, one.name) in tested]
        tasks.append(TaskComparison(title, own["metric"], own["queries"], rows, baselines, against))
    return Comparison([one.name for one in contenders], tasks, left_out, runs)


def html(found: Comparison) -> str:
    """The page."""
    from cpt_ray.evaluate import figures as draw

    values = {
        f"{task.title} ({task.metric.replace('_at_', '@').replace('_', ' ')})": {
            name: (row["value"], row["low"], row["high"]) for name, row in task.rows.items()
        }
        for task in found.tasks
    }
    differences = {
        task.title: {one.name: (one.paired.difference, one.paired.low, one.paired.high) for one in task.against}
        for task in found.tasks
    }
    plots = {
        "values": draw.intervals(values, found.names, "Figures and their 95 % intervals"),
        "differences": draw.intervals(
            differences, found.names, f"Difference from {found.names[0]}, 95 % interval", zero=True
        ),
    }
    return page("compare.html.j2", plots, c=found, sure=SURE)


def names_of(folders: Sequence[str]) -> list[str]:
    """A short name for each folder: the parts of its path in which it differs from the others; `a/x/s`, `b/x/s` are a, b."""
    whole = [folder if "://" in folder else os.path.abspath(folder) for folder in folders]
    paths = [[part for part in folder.split("/") if part] or ["/"] for folder in whole]
    if len(folders) == 1:
        return [paths[0][-1]]
    while all(len(path) > 1 for path in paths) and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    while all(len(path) > 1 for path in paths) and len({tuple(path[1:]) for path in paths}) == len(paths):
        paths = [path[1:] for path in paths]
    return ["/".join(path) for path in paths]


def _why_not(title: str, contenders: Sequence[Contender]) -> str:
    """Why a task cannot be compared; empty where it can."""
    rows = {one.name: one.row(title) for one in contenders}
    if missing := [name for name, row in rows.items() if row is None]:
        return f"not measured for {', '.join(missing)}"
    present = [row for row in rows.values() if row is not None]
    if len({(row["data"], row["metric"], row.get("queries")) for row in present}) > 1:
        return "measured on other data"
    return "" if "low" in present[0] else "its queries are not told apart"


def _figure(one: Contender, title: str) -> Figure:
    return figure(one.run.queries, title, one.method)


def _apart(
    queries: pa.Table, title: str, method: str, pair: tuple[Figure, Figure], most: int
) -> tuple[list[Query], list[Query]]:
    """The queries that the second wins and loses most; equal ones in the order of the data."""
    first, second = pair
    by = merits(second) - merits(first)
    asked = [
        row
        for row in queries.select(["task", "method", "text", "right"]).to_pylist()
        if (row["task"], row["method"]) == (title, method)
    ]

    def shown(at: int) -> Query:
        a, b = ((one.each if one.each.ndim == 1 else one.each[:, 0])[at] for one in pair)
        return Query(
            text=asked[at]["text"],
            right=asked[at]["right"],
            first=first.said[at],
            second=second.said[at],
            scores=(float(a), float(b)),
            by=float(by[at]),
        )

    best = np.argsort(-by, kind="stable")[:most]
    worst = np.argsort(by, kind="stable")[:most]
    return [shown(at) for at in best if by[at] > 0], [shown(at) for at in worst if by[at] < 0]
