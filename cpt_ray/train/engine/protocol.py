"""The engine's interface: how a model is run, differentiated, updated, saved and exported, whatever shards it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Put = Callable[[Any, str], None]
"""(state, path): has the state written there, as it is at the call, perhaps later."""


class Engine(Protocol):
    """One model on all workers. Every rank calls every method, in the same order and equally often."""

    module: nn.Module

    @property
    def averages(self) -> int:
        """Divisor that the engine applies to summed gradients: surrogate losses are multiplied by it."""
        ...

    def embed(self, *inputs: Tensor) -> Tensor:
        """Run the module: an Encoder's embeddings, or a language model's loss. Autograd's grad mode decides on a graph."""
        ...

    def accumulate(self) -> AbstractContextManager[None]:
        """Inside, any number of `backward` calls add up; on leaving, they are reduced over the ranks."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of a scalar. Only inside `accumulate`; `last` says that no other follows before its end."""
        ...

    def step(self, rate: float) -> float:
        """Clip, update with this learning rate, clear gradients; returns the global gradient norm before clipping."""
        ...

    def save(self, folder: str, put: Put) -> None:
        """Have this rank's part of weights and optimiser state written into `folder`."""
        ...

    def load(self, folder: str) -> None:
        """Read what `save` wrote, at the same number of workers and the same ZeRO stage, to the bit."""
        ...

    def whole(self) -> dict[str, dict[str, Tensor]]:
        """By parameter: the whole weight and both Adam moments, fp32 on CPU, on rank 0; empty on the others."""
        ...

    def take_over(self, moments: dict[str, dict[str, Tensor]], steps: int) -> None:
        """Go on after `steps` steps of a run that was sharded otherwise: set the moments that its `whole` gave.

        The weights are those of the module that the engine was made with.
        """
        ...

    def export(self) -> dict[str, Tensor]:
        """The module's whole state dict, on CPU, floats in fp32, on rank 0; empty on the others.

        A tied weight is one tensor under each of its names, as `save_pretrained` knows it by.
        """
        ...

    def shards(self) -> list[str]:
        """File names, relative to the folder of `save`, that a complete save has over all ranks."""
        ...


@contextmanager
def evaluating(engine: Engine) -> Iterator[None]:
    """Inside, the engine's module has no dropout and makes no graphs."""
    engine.module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        engine.module.train()
