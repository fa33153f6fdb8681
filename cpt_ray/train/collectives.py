"""The few collectives that training needs, over torch.distributed or over nothing at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """This process among the workers. With one worker every collective is the identity and needs no process group."""

    rank: int
    count: int
    device: torch.device

    @staticmethod
    def alone(device: str = "cpu") -> Workers:
        return Workers(0, 1, torch.device(device))

    @staticmethod
    def of_process_group() -> Workers:
        """The default process group, which must be initialised."""
        cuda = torch.cuda.is_available() and dist.get_backend() == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        return Workers(dist.get_rank(), dist.get_world_size(), device)

    def all_gather(self, part: Tensor) -> Tensor:
        """Equal parts (n, ...) of all ranks, in rank order: (count * n, ...)."""
        if self.count == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.count)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    def sum(self, value: Tensor) -> Tensor:
        """Summed over ranks, in place."""
        if self.count > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
        return value

    def max(self, value: Tensor) -> Tensor:
        """The maximum over ranks, in place."""
        if self.count > 1:
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return value

    def sum_scatter(self, value: Tensor) -> Tensor:
        """(count * n, ...) summed over ranks; the n rows of this rank."""
        if self.count == 1:
            return value
        rows = len(value) // self.count
        if dist.get_backend() == "nccl":
            own = torch.empty_like(value[:rows])
            dist.reduce_scatter_tensor(own, value.contiguous())
            return own
        return self.sum(value.contiguous())[self.rank * rows : (self.rank + 1) * rows]

    def barrier(self) -> None:
        if self.count > 1:
            dist.barrier()
