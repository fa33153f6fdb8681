"""Plain PyTorch in one process: the engine that every test of exactness compares with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Put
from cpt_ray.train.options import EngineOptions
from cpt_ray.train.schedule import parameter_groups

FILE = "reference.pt"


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


class ReferenceEngine:
    """AdamW over the module's own parameters, in whatever dtype they have (float64 for an oracle)."""

    averages = 1

    def __init__(self, module: nn.Module, options: EngineOptions, workers: Workers) -> None:
        assert workers.count == 1, "the reference engine is single-process"
        self.module = module.to(workers.device)
        self._run = torch.compile(self.module) if options.compile else self.module
        self._clip = options.clip
        self._device = workers.device
        self._optimiser = torch.optim.AdamW(
            parameter_groups(module, options),
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
        )

    def embed(self, *inputs: Tensor) -> Tensor:
        return self._run(*inputs)

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        yield

    def backward(self, loss: Tensor, *, last: bool) -> None:
        loss.backward()

    def step(self, rate: float) -> float:
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._clip or float("inf"))
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(norm)

    def save(self, folder: str, put: Put) -> None:
        state = {"module": self.module.state_dict(), "optimiser": self._optimiser.state_dict()}
        put(state, os.path.join(folder, FILE))

    def load(self, folder: str) -> None:
        state = torch.load(os.path.join(folder, FILE), map_location=self._device, weights_only=True)
        self.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])

    def whole(self) -> dict[str, dict[str, Tensor]]:
        return {name: whole_of(p, self._optimiser.state[p]) for name, p in self.module.named_parameters()}

    def take_over(self, moments: dict[str, dict[str, Tensor]], steps: int) -> None:
        for name, parameter in self.module.named_parameters():
            self._optimiser.state[parameter] = adam_state(moments[name], steps, parameter)

    def export(self) -> dict[str, Tensor]:
        return whole_state(self.module, lambda parameter: parameter)

    def shards(self) -> list[str]:
        return [FILE]
