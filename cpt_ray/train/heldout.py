"""Held-out loss and retrieval during training, by the ranks together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cpt_ray.model.encoder import collate
from cpt_ray.ranking import TILE_BYTES, Judgement, metrics, place
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine, evaluating
from cpt_ray.train.grad_cache import Pairs, plan
from cpt_ray.train.loss import Embedded, Keys
from cpt_ray.train.losses import Kind
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.temperature import Temperature


def retrieval(x: Tensor, y: Tensor, keys: Keys) -> dict[str, float]:
    """MRR, recall@1 and recall@10 of finding y (n, D) for x (n, D) among the y of all n pairs, as `ranking` counts them.

    A candidate of equal content or of the same cluster is no wrong answer and is left out.
    """

    def tiles() -> Iterator[np.ndarray]:
        for rows in torch.arange(len(x), device=x.device).split(max(1, TILE_BYTES // (4 * len(y)))):
            same = (keys.x_hash[rows, None] == keys.x_hash) | (keys.y_hash[rows, None] == keys.y_hash)
            same |= keys.cluster[rows, None] == keys.cluster
            same[torch.arange(len(rows)), rows] = False
            yield (x[rows] @ y.T).float().masked_fill(same, -torch.inf).cpu().numpy()

    found = metrics(place(tiles(), Judgement.diagonal(len(x))))
    return {f"heldout_{name}": value for name, value in found.items()}


def shared(pairs: int, workers: int) -> int:
    """Of so many held-out pairs, those that are looked at: all but the last few that the ranks cannot share equally."""
    return pairs // workers * workers


def evaluate(
    engine: Engine,
    pairs: Pairs,
    temperature: Temperature,
    workers: Workers,
    chunk_tokens: int,
    loss: Kind = InfoNCE(),  # noqa: B008 - options are frozen
) -> dict[str, float]:
    """Held-out loss (at the present temperature) and retrieval over the `shared` ones of `pairs`; the same on every rank."""
    own = pairs.part(np.arange(shared(len(pairs), workers.count))).dealt(workers)
    pool = own.x + own.y
    chunks = plan(np.array([len(ids) for ids in pool]), chunk_tokens, workers).chunks
    vectors: Tensor | None = None
    with evaluating(engine):
        for rows in chunks:
            ids, last = collate([pool[row] for row in rows], pairs.delimiters)
            part = engine.embed(ids.to(workers.device), last.to(workers.device))
            if vectors is None:
                vectors = part.new_empty(len(pool), part.shape[1])
            vectors[rows] = part
    assert vectors is not None
    x, y, keys = vectors[: len(own)], vectors[len(own) :], own.keys(workers.device)
    found = loss(Embedded(x, y, y[:0], temperature.tau, keys, workers))
    x_hash, y_hash, cluster = (workers.all_gather(key) for key in (keys.x_hash, keys.y_hash, keys.cluster))
    everyone = Keys(x_hash, y_hash, cluster, keys.hard_hash[:0])
    return {"heldout_loss": float(found.value)} | retrieval(workers.all_gather(x), workers.all_gather(y), everyone)
