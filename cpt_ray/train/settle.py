"""`precision=auto` becomes a precision before a training has an identity, so that it is the same training ever after.

One that was begun goes on as it began, on whatever machine; only a new one asks what is faster here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.stage import Stage
from cpt_ray.model.precision import Choice, Shape, measured
from cpt_ray.train.launch import on_a_worker
from cpt_ray.train.options import EngineOptions

log = logging.getLogger("cpt_ray")
AUTO: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")

_timed: dict[tuple[Any, ...], Choice] = {}

Kind = TypeVar("Kind", bound=EngineOptions)


def settle(
    options: Kind,
    shape: Callable[[], Shape],
    stage: Stage,
    path: str,
    *,
    params: Callable[[Kind], Mapping[str, Any]],
    inputs: Mapping[str, str | Manifest],
) -> tuple[Kind, dict[str, Any]]:
    """`options` with a precision, and what a manifest says of how it was chosen ({} if the user chose).

    `params(options)` and `inputs` are what `stage` at `path` is identified by. Where the artifact stands or was begun in
    one of AUTO it is that one; a line says so if this machine would choose the other.
    """
    if options.precision != "auto":
        return options, {}
    for precision in AUTO:
        begun: Kind = options.model_copy(update={"precision": precision})
        state = stage.begun(path, params=params(begun), inputs=inputs)
        if state == "done":
            return begun, {}
        if state == "unfinished":
            here = faster(shape(), options)
            if here.precision != precision:
                log.info("%s goes on in %s, as it began; here %s", stage.name, precision, here)
            return begun, {"precision": {**here.to_dict(), "precision": precision}}
    here = faster(shape(), options)
    log.info("%s: precision %s", stage.name, here)
    return options.model_copy(update={"precision": here.precision}), {"precision": here.to_dict()}


def faster(shape: Shape, options: EngineOptions) -> Choice:
    """The faster precision where the workers run, with the threads of one of them; timed once for each shape."""
    where = options.workers == 0, options.gpu, options.threads
    if (shape, *where) not in _timed:
        device = "cuda" if options.gpu else "cpu"
        _timed[shape, *where] = on_a_worker(measured, options, shape, device, options.threads)
    return _timed[shape, *where]
