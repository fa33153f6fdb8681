"""Runs a training function on Ray Train workers, or in this process; the function itself knows nothing of Ray.

A worker that dies is replaced and the group starts again from the last complete checkpoint. A mistake of the user that one
worker meets ends the run at once, on all of them: the others wait for it in a collective. Every run of Ray has a name of
its own: with a name used before, Ray would silently take up its own record of that run, and ours is the checkpoint.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from cpt_ray import cluster
from cpt_ray.compat.ray import user_error, worker_failures
from cpt_ray.errors import UserError, first_line
from cpt_ray.train.collectives import Workers
from cpt_ray.train.options import EngineOptions

Result = TypeVar("Result")
Train = Callable[[Any, Workers], Result]
"""(job, workers) -> result of rank 0. Runs on every worker; the job must be picklable."""


def launch(train: Train[Result], job: Any, options: EngineOptions, scratch: str) -> Result:
    """Run `train(job, workers)` on `options.workers` workers and return what rank 0 returned.

    `scratch` is a folder that all workers see. A UserError in a worker is raised here, and is never tried again; so is
    one when workers died more often than `options.max_failures`, or when the cluster has no room for them.
    """
    if options.workers == 0:
        torch.set_num_threads(options.threads)
        try:
            return train(job, alone(options))
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(error) from error
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": float(options.threads)} | ({"GPU": 1.0} if options.gpu else {})
    elastic = options.elastic_workers
    storage = Path(scratch, "ray").absolute()
    # The types of these arguments are Ray Train V1's in the stubs; V2, the default, takes them.
    workers: Any = (options.workers, elastic) if elastic else options.workers
    failures: Any = {"max_failures": options.max_failures, "controller_failure_limit": 3}
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"train": train, "job": job, "options": options},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=options.gpu,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=f"run-{uuid.uuid4().hex[:8]}",
            storage_path=str(storage),
            failure_config=FailureConfig(**failures),
            callbacks=[_end_at_user_errors()],
        ),
        torch_config=TorchConfig(backend="nccl" if options.gpu else "gloo"),
    )
    try:
        result: Any = trainer.fit()
    except TrainingFailedError as error:
        raise _explained(error, options) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    return result.return_value


def check_room(options: EngineOptions, has: Mapping[str, float], *, here: bool) -> None:
    """UserError where the Ray that was started `here` has no room for all workers (cpt_ray.cluster.check_room)."""
    cpus, gpus = options.workers * options.threads, options.workers * options.gpu
    cluster.check_room(_said(options), has, cpus=cpus, gpus=gpus, here=here, where="cluster.workers")


def _said(options: EngineOptions) -> str:
    return f"{options.workers} workers of {options.threads} CPUs" + (" and a GPU" if options.gpu else "")


def _end_at_user_errors() -> Any:
    """A callback of Ray's controller, which may not try again after what it raises."""
    from ray.train import UserCallback

    class EndAtUserErrors(UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                if (meant := user_error(error)) is not None:
                    raise meant

    return EndAtUserErrors()


def _explained(error: Any, options: EngineOptions) -> UserError:
    """What Ray Train's failure means for the user."""
    if (meant := user_error(error)) is not None:
        return meant
    failures = worker_failures(error)
    if not failures:
        return UserError(
            f"Ray could not start {_said(options)}: {_last_line(error)}",
            where="cluster.workers",
            fix="ask for what the cluster has (cluster.workers, cluster.threads, cluster.gpu); `ray status` shows it",
        )
    rank, failure = sorted(failures.items())[0]
    return UserError(
        f"workers died more than max_failures={options.max_failures} times, worker {rank} last: {_last_line(failure)}",
        where="train.max_failures",
        fix="look into the workers' logs under /tmp/ray/session_latest/logs; the same command goes on from the checkpoint",
    )


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _worker(config: dict[str, Any]) -> Any:
    """On each worker: set threads, find the group, run."""
    options: EngineOptions = config["options"]
    torch.set_num_threads(options.threads)
    logging.basicConfig(level=logging.INFO)
    try:
        return config["train"](config["job"], Workers.of_process_group())
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(error) from error


def _out_of_memory(error: torch.OutOfMemoryError) -> UserError:
    return UserError(
        f"a GPU is out of memory: {first_line(error)}",
        where="chunk_tokens",
        fix="lower chunk_tokens or keep_graphs_mb, or see `cpt-ray plan` for what shards or recomputes more",
    )


def alone(options: EngineOptions) -> Workers:
    """This process as the only worker; DeepSpeed wants a process group even then."""
    device = "cuda" if options.gpu else "cpu"
    if options.engine == "deepspeed" and not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl", store=store, rank=0, world_size=1)
    return Workers.alone(device)
