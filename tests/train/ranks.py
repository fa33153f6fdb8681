"""Processes that train as the ranks of one group, without Ray.

A rank does not end through the interpreter: gloo's threads let go of the last collective's tensors a moment after it is
done, and one that asks an ending Python for its lock aborts the process (`terminate called without an active exception`;
seen in 4 of 12 pairs of ranks with PyTorch 2.13.0 on Python 3.11). Taking the group down does not wait for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from cpt_ray.train.collectives import Workers


def join_group(rank: int, count: int, store: str) -> Workers:
    """Make this process rank `rank` of `count` gloo ranks that meet at the file `store`, one thread each."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "CUDA_VISIBLE_DEVICES": ""}
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    return Workers.of_process_group()


def on_ranks(function: Callable[..., None], args: tuple[Any, ...], count: int, store: Path) -> None:
    """Run `function(workers, *args)` on `count` new processes; what one raises ends all and is raised as mp.spawn does."""
    mp.spawn(_rank, (count, str(store), function, args), nprocs=count)


def _rank(rank: int, count: int, store: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    function(join_group(rank, count, store), *args)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
