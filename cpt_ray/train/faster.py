"""Which precision is faster where a training runs: on one of its workers, not in the driver."""

from __future__ import annotations

from typing import Any

from cpt_ray.cluster import remotely
from cpt_ray.model.precision import Choice, Shape, measured
from cpt_ray.train.options import EngineOptions

_timed: dict[tuple[Any, ...], Choice] = {}


def faster(shape: Shape, options: EngineOptions) -> Choice:
    """The faster precision for a layer of `shape` with the threads, and the GPU, of one worker; timed once a process."""
    device, remote = "cuda" if options.gpu else "cpu", options.workers > 0
    key = shape, device, options.threads, remote
    if key not in _timed:
        arguments = shape, device, options.threads
        gpus = 1.0 if options.gpu else 0.0
        _timed[key] = (
            remotely(measured, *arguments, cpus=options.threads, gpus=gpus) if remote else measured(*arguments)
        )
    return _timed[key]
