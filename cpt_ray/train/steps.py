"""The loop that contrastive training and pretraining share: resume, steps, held-out figures, metrics, checkpoints, NaN.

Step k takes batch k of a published order. After a kill, the newest complete checkpoint says how many steps are finished, and
the next batch is read from there: the same batches, and at the same number of workers the same losses, to the bit. With
portable checkpoints another number of workers or ZeRO stage goes on too, with losses equal within rounding.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import torch
from torch import nn

from cpt_ray import telemetry
from cpt_ray.artifacts.manifest import Manifest, canonical
from cpt_ray.artifacts.store import BUILDING
from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import AUTO, Shape
from cpt_ray.model.weights import weights_identity
from cpt_ray.pairs.batches import BatchReader
from cpt_ray.progress import progress
from cpt_ray.train.checkpoint import Checkpoints, Kind, precision_in, steps_in
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine, make_engine
from cpt_ray.train.faster import faster
from cpt_ray.train.metrics import METRICS, MetricsFile, OnMetrics
from cpt_ray.train.options import EngineOptions

Settled = TypeVar("Settled", bound=EngineOptions)
log = logging.getLogger("cpt_ray")
CHECKPOINTS = "checkpoints"
"""The folder of a job's checkpoints, in its scratch folder."""


@dataclass(frozen=True)
class Job:
    """What every training job has. `identity` changes whenever checkpoints of one job would be wrong for another."""

    options: EngineOptions
    batches: str
    steps: int
    out: str
    scratch: str
    identity: str
    on_metrics: OnMetrics | None


def job_identity(order: Manifest, model: ModelOptions) -> str:
    """Of a job on the batches of `order` from the first weights of `model`, which are known by content, not by path."""
    first = "new" if model.init == "new" else weights_identity(model.init)  # a folder may be called that, too
    return f"{order.digest}/{first}/{canonical(model.result())}"


def finished_in(scratch: str) -> int:
    """Steps that a killed run, whose checkpoints are in `scratch`, goes on after."""
    return steps_in(os.path.join(scratch, CHECKPOINTS))


class Opened(NamedTuple):
    """An engine as the newest checkpoint left it: after `finished` steps, with `state` of what lives outside of it."""

    engine: Engine
    checkpoints: Checkpoints
    finished: int
    state: dict[str, Any]


def settled(options: Settled, shape: Shape, scratch: str) -> Settled:
    """`options` without precision=auto: that of the checkpoint in `scratch` from which a killed run goes on, whatever this
    machine would choose now; else the faster for a layer of `shape`."""
    if options.precision != AUTO:
        return options
    begun = precision_in(os.path.join(scratch, CHECKPOINTS))
    return options.model_copy(update={"precision": begun or faster(shape, options).precision})


def open_engine(module: nn.Module, job: Job, workers: Workers) -> Opened:
    """The job's engine around `module`; `finished` is 0 and `state` empty where there is no checkpoint."""
    options = job.options
    checkpoints = Checkpoints(
        os.path.join(job.scratch, CHECKPOINTS),
        Kind.of(options, workers, job.identity),
        workers,
        options.keep_checkpoints,
        portable=options.portable_checkpoints or options.elastic_workers is not None,
    )
    if (elsewhere := checkpoints.elsewhere()) is not None:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(elsewhere[name]["weight"])
    engine = make_engine(module, options, workers)
    finished, state = checkpoints.restore(engine, elsewhere) or (0, {})
    return Opened(engine, checkpoints, finished, state)


def run_steps(
    job: Job,
    workers: Workers,
    opened: Opened,
    take: Callable[[int, pa.Table], dict[str, float]],
    *,
    evaluate: Callable[[int], dict[str, float]],
    evaluate_every: int,
    state: Callable[[], dict[str, Any]] = dict,
    restore: Callable[[dict[str, Any]], None] = lambda state: None,
) -> None:
    """Run all steps that are not finished yet.

    `take(step, batch)` makes one and `evaluate(finished)` looks at held-out data; both return metrics. `state` and
    `restore` give and take what lives outside the engine (tensors and plain values). UserError naming the batch when
    `take` raises FloatingPointError.
    """
    engine, checkpoints, finished, _ = opened
    if finished:
        restore(opened.state)
        if workers.rank == 0:
            log.info("going on after step %d of %d", finished, job.steps)
    file = MetricsFile(os.path.join(job.out, METRICS), finished) if workers.rank == 0 else None

    def report(metrics: dict[str, float]) -> None:
        if file is not None and metrics:
            file.append(finished, metrics)
            if job.on_metrics is not None:
                job.on_metrics(finished, metrics)

    if finished == 0:
        report(evaluate(0))
    with checkpoints.written(), progress("train", total=job.steps, unit="steps") as bar:
        bar.advance(finished)
        for number, table in BatchReader(job.batches).follow(finished, job.steps):
            before = time.monotonic()
            try:
                metrics = take(number, table)
            except FloatingPointError as error:
                raise UserError(
                    f"{error} at step {number}: training has diverged",
                    where=f"batch {number} of {job.batches}",
                    fix="lower learning_rate, raise warmup, or look at the texts of this batch",
                ) from error
            if workers.rank == 0:
                run = os.path.basename(job.out.removesuffix(BUILDING))
                telemetry.training(run, metrics | {"step_seconds": time.monotonic() - before})
            finished = number + 1
            last = finished == job.steps
            if last or finished % evaluate_every == 0:
                metrics |= evaluate(finished)
            report(metrics)
            if last or finished % job.options.checkpoint_every == 0:
                checkpoints.save(finished, engine, state())
            bar.advance(1)
