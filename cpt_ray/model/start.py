"""From a language model to the first step of contrastive training: what short trainings gain from, and long ones may skip.

A causal language model's state at a closing delimiter says what comes next, hardly what came before, and its token
embeddings share one large direction; all texts then look alike, and the first hundreds of steps go into undoing it. The
paper is silent here, these choices are ours:

1. the topmost layers, which know most of the next word, start anew (for BERT: Zhang et al., arXiv 2006.05987, section 5);
2. the mean is taken out of the token embeddings, and they are brought to a standard deviation;
3. the closing delimiters' own embeddings are made small, since they are the same for every text of a side;
4. queries and keys are made small, so that the delimiter looks at all tokens before it learns where to look.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from cpt_ray.compat.transformers import draw_anew
from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.options import StartOptions


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the CPU's random numbers are those of `seed`; afterwards all goes on as if nothing had been drawn.

    `torch.manual_seed` would seed the GPUs as well, and with them the dropout of all workers alike.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@torch.no_grad()
def prepare(backbone: PreTrainedModel, delimiters: Delimiters, options: StartOptions, seed: int) -> None:
    """Change the weights in place; `seed` is that of new ones.

    UserError where the model has fewer layers, or its architecture no separate query and key projections.
    """
    if options.reset_layers:
        _reset(backbone, options.reset_layers, seed)
    table = cast(nn.Embedding, backbone.get_input_embeddings()).weight
    if options.embedding_std is not None:
        table.sub_(table.mean(dim=0, keepdim=True))
        table.mul_(options.embedding_std / table.std())
    if options.closing_scale != 1:
        table[list(delimiters.closing)] *= options.closing_scale
    if options.attention_scale != 1:
        found = [m for name, m in backbone.named_modules() if name.endswith(("q_proj", "k_proj"))]
        if not found:
            raise UserError(
                "this architecture has no separate query and key projections",
                where="model.start.attention_scale",
                fix="leave it at 1 for this model",
            )
        for projection in found:
            for parameter in projection.parameters():
                parameter.mul_(options.attention_scale)


def _reset(backbone: PreTrainedModel, count: int, seed: int) -> None:
    """New weights, as the architecture draws them, for the last `count` layers."""
    depth = backbone.config.num_hidden_layers
    stacks = (m for m in backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == depth)
    layers = next(stacks, nn.ModuleList())
    if count > len(layers):
        raise UserError(
            f"{count} layers cannot start anew, the model has {len(layers)}",
            where="model.start.reset_layers",
            fix=f"give at most {len(layers)}",
        )
    with seeded(seed):
        for layer in layers[-count:]:
            draw_anew(backbone, layer)
