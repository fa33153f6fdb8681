"""What both engines know of AdamW: parameter groups, and its state whole, without shards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cpt_ray.compat.deepspeed import whole_shape
from cpt_ray.train.options import EngineOptions


def parameter_groups(module: nn.Module, options: EngineOptions) -> list[dict[str, Any]]:
    """Matrices decay; vectors and scalars (norms, biases) do not. Under ZeRO-3 the shape is that of the whole weight.

    `rate_factor` of a group multiplies the learning rate: a token embedding is moved only by the few texts of a batch that
    hold the token, so it may want more than a matrix that all of them share.
    """
    embeddings = {id(one.weight) for one in module.modules() if isinstance(one, nn.Embedding)}
    trained = [p for p in module.parameters() if p.requires_grad]
    tables = [p for p in trained if id(p) in embeddings]
    others = [p for p in trained if id(p) not in embeddings]
    matrices = [p for p in others if len(whole_shape(p)) >= 2]
    vectors = [p for p in others if len(whole_shape(p)) < 2]
    groups = [
        {"params": tables, "weight_decay": options.weight_decay, "rate_factor": options.embedding_rate_factor},
        {"params": matrices, "weight_decay": options.weight_decay, "rate_factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "rate_factor": 1.0},
    ]
    return [group for group in groups if group["params"]]


def whole_of(parameter: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A weight and its Adam moments, on CPU."""
    found = {"weight": parameter, "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
    return {name: value.detach().float().cpu().clone() for name, value in found.items()}


def adam_state(moments: dict[str, Tensor], steps: int, like: Tensor) -> dict[str, Tensor]:
    """AdamW's state of one parameter after `steps` steps."""
    state = {name: moments[name].to(like.device, like.dtype).clone() for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.tensor(float(steps)), **state}


def whole_state(module: nn.Module, whole: Callable[[nn.Parameter], Tensor], *, kept: bool = True) -> dict[str, Tensor]:
    """`Engine.export` of a module of which `whole` gives each weight, once; empty where nothing is `kept`."""
    found: dict[nn.Parameter, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter not in found:
            weight = whole(parameter)
            found[parameter] = weight.detach().float().cpu().clone() if kept else weight.new_empty(0)
        state[name] = found[parameter]
    for name, buffer in module.state_dict().items():
        if name not in state:
            state[name] = (buffer.float() if buffer.is_floating_point() else buffer).cpu().clone()
    return state if kept else {}
