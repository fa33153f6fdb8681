"""DeepSpeed's internals: what a partitioned weight carries, how checkpoints are cut and named, where ZeRO keeps its shards.

`import deepspeed` takes seconds, so what only looks at a weight imports nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

VERSION = "0.19.8"


def whole_shape(parameter: Tensor) -> torch.Size:
    """The shape of a weight before ZeRO-3 cut it."""
    return getattr(parameter, "ds_shape", parameter.shape)


def is_cut(parameter: Tensor) -> bool:
    """Whether ZeRO-3 holds this weight: it is whole only while its module runs."""
    return hasattr(parameter, "ds_id")


def refused_value(zero: dict[str, Any]) -> tuple[str, str] | None:
    """(key, what is wrong) of a value that DeepSpeed does not take in its zero_optimization section; None if it takes all."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    try:
        DeepSpeedZeroConfig(**zero)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{first['msg'].removeprefix('Value error, ')} (it is {first['input']!r})"
        return ".".join(map(str, first["loc"])), what
    return None


def compile_nothing() -> None:
    """Keep DeepSpeed from compiling its shared-memory collective at the start, which only inference would use."""
    import deepspeed

    deepspeed.ops.__compatible_ops__ = {}


def forget_backward(optimiser: Any) -> None:
    """Have the next backward pass add to the gradients of the last one.

    ZeRO-3 counts backward passes in the next forward pass. A kept graph has none in between, and its gradient would replace
    that of the chunk before it instead of being added.
    """
    optimiser.clear_backward_seen_flag()


@contextmanager
def saving_by(engine: Any, put: Callable[[Any, str], None]) -> Iterator[None]:
    """Inside, `engine.save_checkpoint` decides which rank saves what, and `put(state, path)` does the writing."""
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    class Handing(TorchCheckpointEngine):
        def save(self, state_dict: Any, path: str) -> None:
            put(state_dict, path)

    own = engine.checkpoint_engine
    engine.checkpoint_engine = Handing()
    try:
        yield
    finally:
        engine.checkpoint_engine = own


def files_of(tag: str, ranks: int, stage: int, *, bf16: bool) -> list[str]:
    """Paths, relative to its folder, of a checkpoint of all ranks."""
    if stage == 3:
        weights = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(ranks)]
    else:
        weights = ["mp_rank_00_model_states.pt"]
    prefix = "bf16_" if bf16 else ""
    states = [f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(ranks)] if stage else []
    return [os.path.join(tag, name) for name in weights + states]


def link_moments(optimiser: Any) -> None:
    """Under ZeRO 1 and 2, have `safe_get_full_optimizer_state` find the moments of all groups.

    DeepSpeed links moments to parameters once, when the first of its groups has stepped and the others have none.
    """
    optimiser._hp_optimizer_states_linked = False
    optimiser._lazy_init_hp_params_optimizer_state()


def flat_shards(optimiser: Any, stage: int) -> list[Tensor]:
    """This rank's fp32 weights under ZeRO 1 to 3, one flat tensor a group; the keys of the inner optimiser's state."""
    return list(optimiser.fp32_partitioned_groups_flat if stage == 3 else optimiser.single_partition_of_fp32_groups)


def inner_state(optimiser: Any) -> dict[Tensor, dict[str, Tensor]]:
    """The state of the AdamW that ZeRO steps, by flat shard."""
    return optimiser.optimizer.state


@dataclass(frozen=True)
class Place:
    """Where this rank's part of a weight is: from `first` of the flattened weight, at `start` of `flat`, `size` long."""

    flat: Tensor
    start: int
    first: int
    size: int


def place_of(parameter: Any, optimiser: Any, stage: int, rank: int) -> Place | None:
    """None where no part of this parameter is on this rank."""
    shards = flat_shards(optimiser, stage)
    if stage == 3:
        group, offset, size = optimiser.grad_position[optimiser.get_param_id(parameter)]
        return Place(shards[group], offset, rank * size, size)
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    of_weight, of_flat = mapping.lp_fragment_address, mapping.hp_fragment_address
    storage = mapping.hp_fragment.untyped_storage().data_ptr()  # a view of its flat shard
    flat = next(one for one in shards if one.untyped_storage().data_ptr() == storage)
    return Place(flat, of_flat.start, of_weight.start, of_weight.numel)
