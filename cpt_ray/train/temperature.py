"""The trained temperature: logit = cosine * exp(tau).

tau lives in fp32 (fp64 in tests) outside the engine, with an optimiser of its own and no decay: in bf16 a log-scale near
2.66 would move in steps of 1.6 %. Its gradient is the same on every rank, so every rank holds the same tau.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from cpt_ray.train.options import TRAINED_TEMPERATURES


class Temperature:
    """temperature = exp(-tau), within TRAINED_TEMPERATURES while it is trained."""

    def __init__(
        self,
        initial: float,
        *,
        trained: bool = True,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.tau = nn.Parameter(torch.tensor(math.log(1 / initial), dtype=dtype, device=device))
        self._trained = trained
        self._optimiser = torch.optim.Adam([self.tau], betas=betas, eps=eps)

    @property
    def value(self) -> float:
        return math.exp(-float(self.tau.detach()))

    def step(self, gradient: Tensor, rate: float) -> None:
        if not self._trained:
            return
        self.tau.grad = gradient.detach().to(self.tau.dtype).reshape(())
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()
        with torch.no_grad():
            lowest, highest = TRAINED_TEMPERATURES
            self.tau.clamp_(-math.log(highest), -math.log(lowest))

    def state(self) -> dict[str, Any]:
        return {"tau": self.tau.detach().cpu(), "optimiser": self._optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.tau.copy_(state["tau"])
        self._optimiser.load_state_dict(state["optimiser"])
