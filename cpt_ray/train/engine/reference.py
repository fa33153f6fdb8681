"""Plain PyTorch in one process: the engine that every test of exactness compares with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine.optimiser import adam_state, parameter_groups, whole_of, whole_state
from cpt_ray.train.engine.protocol import Put
from cpt_ray.train.options import EngineOptions

FILE = "reference.pt"


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
