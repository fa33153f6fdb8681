"""The encoder: one decoder for both sides, read at the closing delimiter (arXiv 2201.10005, section 2).

ids   (B, T) int64   delimited token ids, padded on the right
last  (B,)   int64   position of the closing delimiter
v     (B, D) float32 last hidden state at `last`, L2-normalised
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from cpt_ray.compat.torch import attention_by_matrices
from cpt_ray.errors import UserError
from cpt_ray.memory import bound_shape_caches
from cpt_ray.model.decoder import width_of
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.last_layer import hidden_at

SHORT = 256
"""Longest padded sequence, in tokens, whose attention scores may be kept for the backward pass."""
CHUNK_COST = 256
"""What one more chunk costs, as tokens of padding: measured with 4 layers of width 256 on CPU."""


class Encoder(nn.Module):
    """A causal decoder of transformers without its language-model head.

    No attention mask is passed: under a causal mask a position sees only what stands before it, padding on the right comes
    after the closing delimiter, and positions count from 0 as in a sequence of its own. So the embedding is the one of the
    unpadded sequence (a test holds this for each architecture), and attention keeps its fastest kernel.
    """

    def __init__(self, backbone: PreTrainedModel, delimiters: Delimiters, *, autocast: bool = False) -> None:
        super().__init__()
        bound_shape_caches()
        self.backbone = backbone
        self.delimiters = delimiters
        self.autocast = autocast  # matrix products in bf16, weights and residual stream in fp32

    @property
    def dimension(self) -> int:
        """D, the width of the embedding."""
        return width_of(self.backbone.config)

    def forward(self, ids: Tensor, last: Tensor) -> Tensor:
        by_matrices = self.autocast and ids.device.type == "cpu" and ids.shape[1] <= SHORT and torch.is_grad_enabled()
        with (
            torch.autocast(ids.device.type, torch.bfloat16, enabled=self.autocast),
            attention_by_matrices(enabled=by_matrices),
        ):
            at_last = hidden_at(self.backbone, ids, last)
        return F.normalize(at_last if at_last.dtype == torch.float64 else at_last.float(), dim=-1)


def collate(sequences: Sequence[np.ndarray], delimiters: Delimiters) -> tuple[Tensor, Tensor]:
    """Delimited sequences to (ids, last), padded on the right; checks that every `last` is a closing delimiter."""
    lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
    last = lengths - 1
    # Any id may pad, since nothing looks at what stands to its right; a closing delimiter is sure to be in the vocabulary.
    ids = np.full((len(sequences), int(lengths.max())), delimiters.closing[0], np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    if not np.isin(ids[np.arange(len(ids)), last], delimiters.closing).all():
        raise ValueError(
            "a sequence does not end in a closing delimiter: wrap() was not applied, or truncation came after"
        )
    return torch.from_numpy(ids), torch.from_numpy(last)


def chunks_by_tokens(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Positions (int64) sorted by falling length, cut so that rows x longest row <= `budget` tokens in each chunk.

    `lengths` is (rows,), in tokens, at least 1. A chunk ends earlier where one row more would bring its padding over
    CHUNK_COST: then two chunks are cheaper. UserError where a row alone exceeds the budget.
    """
    if len(lengths) and int(lengths.max()) > budget:
        raise UserError(
            f"a sequence of {int(lengths.max())} tokens does not fit a chunk of {budget} tokens",
            where="chunk_tokens",
            fix="raise chunk_tokens, or lower max_x_tokens and max_y_tokens",
        )
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order]
    chunks, start = [], 0
    while start < len(order):
        longest = int(falling[start])
        padding = np.cumsum(longest - falling[start : start + max(budget // longest, 1)])
        rows = int(np.searchsorted(padding, CHUNK_COST, side="right"))
        chunks.append(order[start : start + rows])
        start += rows
    return chunks
