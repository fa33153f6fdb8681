"""Runs a training function on Ray Train workers, or in this process; the function itself knows nothing of Ray.

A worker that dies is replaced and the group starts again from the last complete checkpoint. Every run of Ray has a name of
its own: with a name used before, Ray would silently take up its own record of that run, and ours is the checkpoint.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from cpt_ray.errors import UserError
from cpt_ray.train.collectives import Workers
from cpt_ray.train.options import EngineOptions

Result = TypeVar("Result")
Train = Callable[[Any, Workers], Result]
"""(job, workers) -> result of rank 0. Runs on every worker; the job must be picklable."""


def launch(train: Train[Result], job: Any, options: EngineOptions, scratch: str) -> Result:
    """Run `train(job, workers)` on `options.workers` workers and return what rank 0 returned.

    `scratch` is a folder that all workers see. A UserError in a worker is raised here, and is never tried again.
    """
    if options.workers == 0:
        torch.set_num_threads(options.threads)
        return train(job, _alone(options))
    from ray.train import FailureConfig, RunConfig, ScalingConfig
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
        ),
        torch_config=TorchConfig(backend="nccl" if options.gpu else "gloo"),
    )
    result: Any = trainer.fit()
    returned = result.return_value
    shutil.rmtree(storage, ignore_errors=True)
    if isinstance(returned, UserError):
        raise returned
    return returned


def _worker(config: dict[str, Any]) -> Any:
    """On each worker: set threads, find the group, run. Errors of the user are returned, so that Ray does not retry."""
    options: EngineOptions = config["options"]
    torch.set_num_threads(options.threads)
    logging.basicConfig(level=logging.INFO)
    try:
        return config["train"](config["job"], Workers.of_process_group())
    except UserError as error:
        return error
    except torch.OutOfMemoryError as error:
        return UserError(
            f"a worker's GPU is out of memory: {str(error).splitlines()[0]}",
            where="chunk_tokens",
            fix="lower chunk_tokens or keep_graphs_mb, or see `cpt-ray plan` for what shards or recomputes more",
        )


def _alone(options: EngineOptions) -> Workers:
    """This process as the only worker; DeepSpeed wants a process group even then."""
    device = "cuda" if options.gpu else "cpu"
    if options.engine == "deepspeed" and not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl", store=store, rank=0, world_size=1)
    return Workers.alone(device)
