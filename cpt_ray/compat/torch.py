"""PyTorch's internals, and switches under names that say less than they do."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

VERSION = "2.13.0"
# torch says so of any array that is mapped from disk; tensors over such are only read here.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


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


def product(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`hidden` (..., K) by `weight` (N, K), plus `bias` (N,): what F.linear gives, all float32, where nothing is trained.

    By oneDNN's kernels where this is an x86 with AVX. F.linear's are MKL's, which has no AVX-512 for processors of AMD
    (1,024 x 256 by 704 on Zen 5, one core: 110 GFLOP/s, oneDNN 250; both with AVX2 alone: 109 and 125).
    """
    if not _has_onednn():
        return F.linear(hidden, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(hidden, weight, bias, "none", [], "")
    return found


def product_of_arrays(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`left` (M, K) by the transpose of `right` (N, K), both float32: (M, N), by `product`."""
    with torch.inference_mode():
        return product(torch.from_numpy(left), torch.from_numpy(right)).numpy()


@functools.cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
