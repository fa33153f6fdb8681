"""Labelled tasks measured as training goes on. What they are is not known here, only that they ask for vectors of texts:
search, classification and similarity move apart as a model trains (arXiv 2201.10005), and one of them may choose the
checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import collate
from cpt_ray.model.options import Side
from cpt_ray.model.tokenizer import encode
from cpt_ray.ranking import Floats
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine, evaluating
from cpt_ray.train.grad_cache import plan


class Embed(Protocol):
    """Texts of a side to (n, D) float32 of length 1."""

    def __call__(self, texts: list[str], side: Side) -> Floats: ...


class Watched(Protocol):
    """Tasks; they are pickled to the workers."""

    @property
    def names(self) -> Sequence[str]:
        """Of the figures, higher being better."""

    def __call__(self, embed: Embed) -> dict[str, float]:
        """The figures by name. What it asks `embed` for, and in which order, is the same in every process."""


def measure(
    watched: Watched,
    engine: Engine,
    tokenizer: Any,
    delimiters: Delimiters,
    limits: dict[Side, int],
    workers: Workers,
    chunk_tokens: int,
) -> dict[str, float]:
    """The figures of the model as it is now, the same on every rank; each embeds its share of the texts."""

    def embed(texts: list[str], side: Side) -> Floats:
        rows = [delimiters.wrap(ids, side) for ids in encode(tokenizer, texts, limits[side])]
        share = -(-len(rows) // workers.count)
        # As many on each rank: the first ones again where the last rank has too few.
        own = [rows[at % len(rows)] for at in range(workers.rank * share, (workers.rank + 1) * share)]
        vectors: torch.Tensor | None = None
        with evaluating(engine):
            for chunk in plan(np.array([len(ids) for ids in own]), chunk_tokens, workers).chunks:
                ids, last = collate([own[row] for row in chunk], delimiters)
                part = engine.embed(ids.to(workers.device), last.to(workers.device))
                if vectors is None:
                    vectors = part.new_empty(share, part.shape[1])
                vectors[chunk] = part
        assert vectors is not None
        found: Floats = workers.all_gather(vectors)[: len(rows)].float().cpu().numpy()
        return found

    found = watched(embed)
    # The figures of rank 0: what follows from them, such as a kept checkpoint, must be decided alike by all.
    own = torch.tensor([[found[name] for name in watched.names]], dtype=torch.float64, device=workers.device)
    return dict(zip(watched.names, workers.all_gather(own)[0].tolist(), strict=True))
