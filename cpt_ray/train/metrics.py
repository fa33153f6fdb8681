"""Metrics by step: a file that never holds a step twice, and the callback through which others listen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from cpt_ray.train.writer import told_where

METRICS = "metrics.jsonl"

OnMetrics = Callable[[int, dict[str, float]], None]
"""(finished steps, metrics): called on rank 0 only, in the worker's process, so it must be picklable."""


class MetricsFile:
    """metrics.jsonl of one run. Opened at step s, it forgets what an interrupted run wrote for steps after s."""

    def __init__(self, path: str, finished: int) -> None:
        self._path = Path(path)
        kept = [row for row in read_metrics(path) if row["step"] <= finished]
        temporary = self._path.with_suffix(".tmp")
        with told_where(path):
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
            os.replace(temporary, self._path)

    def append(self, step: int, metrics: dict[str, float]) -> None:
        with told_where(str(self._path)), self._path.open("a") as sink:
            sink.write(json.dumps({"step": step, **metrics}) + "\n")


def read_metrics(path: str) -> list[dict[str, float]]:
    """Rows by step; a last line that a kill cut short is left out."""
    rows = []
    if Path(path).exists():
        for line in Path(path).read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                rows.append(json.loads(line))
    return rows
