"""PyTorch's internals, and switches under names that say less than they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

VERSION = "2.13.0"


def move_buffers(module: nn.Module, device: torch.device) -> None:
    """`module.to(device)` for buffers alone, also those that no state dict has."""
    for part in module.modules():
        part._buffers = {name: None if one is None else one.to(device) for name, one in part._buffers.items()}


def is_weight(tensor: Tensor) -> bool:
    """Whether it is a parameter or a view of one, as autograd saves it; ZeRO-3's gathered ones too."""
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


@contextmanager
def attention_by_matrices(*, enabled: bool) -> Iterator[None]:
    """Inside, attention is three plain bf16 operations instead of one fused kernel, whatever the library prefers.

    On CPUs the fused kernel's backward pass in bf16 takes four times as long as theirs (4,096 tokens as 32 x 128, 4 heads of
    64, Zen 4: 54 ms and 13 ms). They keep the scores, so this is for short sequences only.
    """
    if not enabled:
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()  # the name is old: it holds for CPUs as well
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
