"""The paper's loss (arXiv 2201.10005, section 3): symmetric cross-entropy over all pairs of all ranks.

    logits S = q d^T exp(tau)        loss = (cross-entropy over rows + cross-entropy over columns) / 2

A rank holds the rows of its own queries, complete, and a part of every column; columns are completed by an all-reduce of
(maximum, sum of exponentials).

    pass 1   each tile (t, N): row log-sum-exp, running column maximum and sum
    between  columns completed over ranks
    pass 2   each tile again:  G = dloss/dS = (P_row + P_col - 2 * [diagonal]) / 2B;  dq = G d e^tau,  dd += G^T q e^tau,
             dtau += sum(G * S);  then dd is summed over ranks and each keeps its own rows

Hard negatives are columns that no query belongs to: they are in the rows' sums only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cpt_ray.train.losses import Kind

if TYPE_CHECKING:
    from cpt_ray.train.loss import Embedded, Loss, Tile


class InfoNCE(Kind):
    """Symmetric: each x among all y, and each y among all x."""

    kind: Literal["infonce"] = "infonce"

    def __call__(self, batch: Embedded) -> Loss:
        import torch

        q, workers, pairs, first = batch.q, batch.workers, batch.pairs, batch.first
        tiles = batch.tiles()
        only_tile: Tile | None = None
        row_lse = q.new_empty(len(q))
        # Finite, since a column may be masked in every row of a tile, and -inf - -inf is not a number.
        column_max = q.new_full((pairs,), torch.finfo(q.dtype).min)
        column_sum = q.new_zeros(pairs)
        own = q.new_empty(len(q))
        counts = batch.no_counts()
        for rows in tiles:
            tile = batch.tile(rows)
            scores = tile.logits
            row_lse[rows] = scores.logsumexp(dim=1)
            own[rows] = tile.own()
            highest = torch.maximum(column_max, scores[:, :pairs].amax(dim=0))
            column_sum = column_sum * (column_max - highest).exp() + (scores[:, :pairs] - highest).exp().sum(dim=0)
            column_max = highest
            counts += tile.counts()
            if len(tiles) == 1:
                only_tile = tile

        highest = workers.max(column_max.clone())
        column_lse = highest + workers.sum(column_sum * (column_max - highest).exp()).log()
        value = workers.sum((row_lse - own).sum() + (column_lse[first : first + len(q)] - own).sum()) / (2 * pairs)

        gradients = batch.gradients()
        for rows in tiles:
            tile = only_tile or batch.tile(rows)
            scores, positive = tile.logits, tile.positive
            gradient = (scores - row_lse[rows, None]).exp()
            gradient[:, :pairs] += (scores[:, :pairs] - column_lse).exp()
            gradient[torch.arange(len(positive), device=q.device), positive] -= 2
            gradient /= 2 * pairs
            gradients.add(rows, tile, gradient)
        return gradients.loss(value, counts)
