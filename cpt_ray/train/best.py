"""The best model of a run by a metric, kept whole among the checkpoints, whatever shards it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine
from cpt_ray.train.options import merit
from cpt_ray.train.writer import told_where, write_now

FILE = "best.pt"


class BestModel:
    """Every worker calls every method. What an interrupted run found best is still the best to beat."""

    def __init__(self, folder: str, metric: str | None, workers: Workers) -> None:
        self._path, self._metric, self._workers = Path(folder, FILE), metric, workers
        self._value: float | None = None
        if metric is not None and self._path.exists():
            self._value = float(torch.load(self._path, weights_only=True, mmap=True)["value"])
        workers.barrier()

    def offer(self, step: int, metrics: dict[str, float], engine: Engine, state: dict[str, Any]) -> None:
        """Keep the model after `step` steps if it is better than all before; `metrics` are equal on all ranks."""
        if self._metric is None or self._metric not in metrics:
            return
        value = metrics[self._metric]
        if self._value is not None and merit(self._metric, value) <= merit(self._metric, self._value):
            return
        self._value = value
        weights = engine.export()
        if self._workers.rank == 0:
            with told_where(str(self._path)):
                self._path.parent.mkdir(parents=True, exist_ok=True)
            # Serialised in memory first: on a full disk torch.save raises what says nothing of it.
            write_now({"step": step, "value": value, "weights": weights, "state": state}, str(self._path))

    def load(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """(steps, weights as `Engine.export` gives them, state) of the best model; None without a metric, or value."""
        if self._value is None:
            return None
        self._workers.barrier()  # rank 0 has written it
        found = torch.load(self._path, weights_only=True, map_location="cpu")
        return int(found["step"]), found["weights"], found["state"]
