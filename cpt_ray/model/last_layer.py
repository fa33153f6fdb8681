"""The last hidden state at one position of each sequence, without computing the others.

The embedding is read at the closing delimiter alone. In the last layer the other positions are needed as keys and values
only: queries, attention output, feed-forward and final norm are computed for one position a sequence. It is exact, and
saves most of one layer's work: two thirds of the whole for a one-layer model, 1/L for L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from cpt_ray.compat.transformers import gpt2_before_last, kernel_of, llama_before_last, rotated

LLAMA_LIKE = ("llama", "qwen2")
"""`config.model_type` of decoders with Llama's layer: pre-norm, rotary positions, separate q, k, v projections."""


def hidden_at(backbone: PreTrainedModel, ids: Tensor, last: Tensor) -> Tensor:
    """(B, D) last hidden state, after the final norm, at position `last` (B,) of the right-padded `ids` (B, T)."""
    kind = _kind(backbone)
    if kind == "llama":
        return _llama(backbone, ids, last)
    if kind == "gpt2":
        return _gpt2(backbone, ids, last)
    hidden = backbone(input_ids=ids, use_cache=False).last_hidden_state
    return hidden[torch.arange(len(ids), device=ids.device), last]


def once_a_text(backbone: Any) -> list[nn.Module]:
    """What `hidden_at` runs at one position of each text; empty where it computes all of them."""
    kind = _kind(backbone)
    if kind == "llama":
        layer = backbone.layers[-1]
        return [layer.self_attn.q_proj, layer.self_attn.o_proj, layer.mlp]
    if kind == "gpt2":
        layer = backbone.h[-1]
        return [layer.attn.c_proj, layer.mlp]
    return []


def _kind(backbone: PreTrainedModel) -> str | None:
    """Whose last layer this is, of those that can be computed at one position."""
    # Layers are called without a mask, which the eager kernel would take for attention to both sides.
    if kernel_of(backbone) == "eager":
        return None
    kind = backbone.config.model_type
    if kind in LLAMA_LIKE and not _windowed(backbone):
        return "llama"
    return "gpt2" if kind == "gpt2" else None


def _windowed(backbone: PreTrainedModel) -> bool:
    """Whether some layer attends to a window only."""
    kinds = getattr(backbone.config, "layer_types", None) or []
    return any(kind != "full_attention" for kind in kinds)


def _llama(backbone: Any, ids: Tensor, last: Tensor) -> Tensor:
    rows = torch.arange(len(ids), device=ids.device)
    positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
    hidden, layer, (cos, sin) = llama_before_last(backbone, ids)
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    heads = (len(ids), ids.shape[1], -1, attention.head_dim)
    k = attention.k_proj(normed).view(heads).transpose(1, 2)  # (B, H, T, d)
    v = attention.v_proj(normed).view(heads).transpose(1, 2)
    q = attention.q_proj(normed[rows, last]).view(len(ids), -1, 1, attention.head_dim)  # (B, H, 1, d)
    k = rotated(k, cos, sin)
    q = rotated(q, cos[0, last][:, None], sin[0, last][:, None])
    seen = (positions <= last[:, None])[:, None, None]  # (B, 1, 1, T): what stands up to the delimiter
    mixed = F.scaled_dot_product_attention(
        q.to(v.dtype),
        k.to(v.dtype),
        v,
        attn_mask=seen,
        dropout_p=attention.attention_dropout if attention.training else 0.0,
        scale=attention.scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    at_last = hidden[rows, last] + attention.o_proj(mixed.reshape(len(ids), -1))
    at_last = at_last + layer.mlp(layer.post_attention_layernorm(at_last))
    return backbone.norm(at_last)


def _gpt2(backbone: Any, ids: Tensor, last: Tensor) -> Tensor:
    rows = torch.arange(len(ids), device=ids.device)
    positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
    hidden, layer = gpt2_before_last(backbone, ids)
    attention = layer.attn
    heads = (len(ids), ids.shape[1], attention.num_heads, attention.head_dim)
    # One projection for q, k and v: it runs whole, as a module, because ZeRO-3 gathers the weights of modules only.
    q, k, v = (part.view(heads) for part in attention.c_attn(layer.ln_1(hidden)).split(attention.split_size, dim=2))
    seen = (positions <= last[:, None])[:, None, None]  # (B, 1, 1, T)
    mixed = F.scaled_dot_product_attention(
        q[rows, last][:, :, None],  # (B, H, 1, d)
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=seen,
        dropout_p=attention.attn_dropout.p if attention.training else 0.0,
        scale=attention.scaling,
    )
    at_last = hidden[rows, last] + attention.resid_dropout(attention.c_proj(mixed.reshape(len(ids), -1)))
    at_last = at_last + layer.mlp(layer.ln_2(at_last))
    return backbone.ln_f(at_last)
