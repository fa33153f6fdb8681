"""Internals of transformers: the attention kernel of a model, its modelling code, and how weights are drawn."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.pytorch_utils import Conv1D
from transformers.utils import CONFIG_NAME, cached_file, extract_commit_hash

from cpt_ray.compat.torch import product

VERSION = "5.23.0"


def kernel_of(model: PreTrainedModel) -> str:
    """The attention kernel that a model runs with: eager, sdpa, flash_attention_2 or another."""
    return str(model.config._attn_implementation)


@contextmanager
def kernel(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Inside, the model runs with this kernel. The public `set_attn_implementation` would check packages and GPUs."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def says_no_kernel(error: Exception) -> bool:
    """Whether it is by its words that the asked-for attention kernel is not to be had."""
    return "attention" in str(error).lower() or "flash_attn" in str(error).lower()


def has_processor(model_type: str) -> bool:
    """Whether this architecture reads images or sound too: it has a processor beside its tokenizer."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES  # brings image processing along

    return model_type in PROCESSOR_MAPPING_NAMES


def multiply_for_inference(module: nn.Module) -> None:
    """Have the linear layers of `module`, as far as they are float32 on the CPU, multiply by `product`: nothing can be
    trained from then on. GPT-2's keep their weights the other way round."""
    for part in module.modules():
        if type(part) is nn.Linear:
            weight, bias = part.weight, part.bias
        elif type(part) is Conv1D:
            weight, bias = part.weight.T, part.bias
        else:
            continue
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
            part.forward = functools.partial(product, weight=weight, bias=bias)  # type: ignore[method-assign]


def draw_anew(model: PreTrainedModel, part: nn.Module) -> None:
    """New weights for `part`, as the architecture draws them."""
    tensors: tuple[Any, ...] = (*part.parameters(), *part.buffers())
    for tensor in tensors:
        tensor._is_hf_initialized = False  # else what was read from a file would silently stay
    part.apply(model._init_weights)


def commit_of(name: str, revision: str) -> str:
    """The commit that a branch or tag of a hub id is now; OSError or ValueError where there is none."""
    return str(extract_commit_hash(cached_file(name, CONFIG_NAME, revision=revision), None))


def llama_before_last(backbone: Any, ids: Tensor) -> tuple[Tensor, Any, tuple[Tensor, Tensor]]:
    """(B, T, D) hidden states before Llama's last layer, that layer, and its rotations (cos, sin), (1, T, d) each."""
    positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
    hidden = backbone.embed_tokens(ids)
    rotary = backbone.rotary_emb(hidden, position_ids=positions)
    *before, layer = backbone.layers
    for one in before:
        hidden = one(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    return hidden, layer, rotary


def rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, H, T, d) queries or keys, turned by cos and sin (1 or B, T, d)."""
    return apply_rotary_pos_emb(heads, heads, cos, sin)[1]


def gpt2_before_last(backbone: Any, ids: Tensor) -> tuple[Tensor, Any]:
    """(B, T, D) hidden states before GPT-2's last layer, and that layer."""
    positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
    hidden = backbone.drop(backbone.wte(ids) + backbone.wpe(positions))
    *before, layer = backbone.h
    for one in before:
        hidden = one(hidden)
    return hidden, layer
