"""From a language model to the first step of contrastive training: what short trainings gain from, and long ones may skip.

A causal language model's state at a closing delimiter says what comes next, hardly what came before, and its token
embeddings share one large direction; all texts then look alike, and the first hundreds of steps go into undoing it. The
paper is silent here, these choices are ours:

1. the mean is taken out of the token embeddings, and they are brought to a standard deviation;
2. the closing delimiters' own embeddings are made small, since they are the same for every text of a side;
3. queries and keys are made small, so that the delimiter looks at all tokens before it learns where to look.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.options import Options


class StartOptions(Options):
    """What is done to the initial weights before the first step; by default nothing."""

    embedding_std: float | None = Field(
        None, gt=0, description="centre the token embeddings and scale them to this deviation; null: as they are"
    )
    closing_scale: float = Field(1.0, ge=0, description="factor on the embeddings of the closing delimiters")
    attention_scale: float = Field(1.0, ge=0, description="factor on the query and key projections of every layer")


@torch.no_grad()
def prepare(backbone: nn.Module, delimiters: Delimiters, options: StartOptions) -> None:
    """Change the weights in place. UserError where the architecture has no separate query and key projections."""
    table = backbone.get_input_embeddings().weight  # type: ignore[operator]
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
