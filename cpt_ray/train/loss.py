"""The contrastive loss over all pairs of all ranks, with its gradients, in one readable place.

    logits S = q d^T exp(tau)        loss = (cross-entropy over rows + cross-entropy over columns) / 2

Shapes: n pairs on this rank, B = n * ranks pairs in all, h hard negatives on this rank, H = h * ranks in all, N = B + H,
D the embedding, t rows of a tile. Queries q stay where they are; only documents d are gathered. A rank holds the rows of its
own queries, complete, and a part of every column; columns are completed by an all-reduce of (maximum, sum of exponentials).

    pass 1   each tile (t, N): row log-sum-exp, running column maximum and sum
    between  columns completed over ranks
    pass 2   each tile again:  G = dloss/dS = (P_row + P_col - 2 * [diagonal]) / 2B;  dq = G d e^tau,  dd += G^T q e^tau,
             dtau += sum(G * S);  then dd is summed over ranks and each keeps its own rows

Masked logits (a false negative is not a negative): off the diagonal, where two pairs share the content of x, the content
of y, or a duplicate cluster; and a hard negative whose content is the row's own y. Rows and columns use one mask. Hard
negatives are appended after all positives and are columns only: no query belongs to them.

Everything is computed in the dtype of q, which must be float32 (or float64 in tests): bf16 logits cost 0.3-1.3 % of the
gradient. Every rank returns the same global loss; gradients are those of the global loss, not divided by anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cpt_ray.train.collectives import Workers


@dataclass(frozen=True)
class Keys:
    """Content of the pairs of this rank, (n,) int64 each; hard negatives have content only, (h,)."""

    x_hash: Tensor
    y_hash: Tensor
    cluster: Tensor
    hard_hash: Tensor


@dataclass(frozen=True)
class Loss:
    """What `contrastive_loss` returns. dq (n, D), dd (n, D), dhard (h, D) are of this rank, the rest is global."""

    value: Tensor
    dq: Tensor
    dd: Tensor
    dhard: Tensor
    dtau: Tensor
    masked: int
    correct: float


def contrastive_loss(
    q: Tensor,
    d: Tensor,
    hard: Tensor,
    tau: Tensor,
    keys: Keys,
    workers: Workers,
    *,
    mask: bool = True,
    tile_rows: int = 512,
) -> Loss:
    """q, d (n, D) and hard (h, D) L2-normalised, without graphs; n and h equal on all ranks; tau a scalar."""
    assert q.dtype in (torch.float32, torch.float64), "the loss is never computed in half precision"
    n, pairs = len(q), len(q) * workers.count
    first = workers.rank * n  # column of the positive of this rank's row 0
    scale = tau.detach().to(q.dtype).exp()
    documents = torch.cat([workers.all_gather(d), workers.all_gather(hard)]) if len(hard) else workers.all_gather(d)
    columns = _Columns.gather(keys, workers) if mask else None
    tiles = [slice(start, min(start + tile_rows, n)) for start in range(0, n, tile_rows)]

    def logits(rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        """(t, N) logits with masked ones at -inf, the columns of their positives, and the mask."""
        scores = (q[rows] * scale) @ documents.T
        positive = torch.arange(first + rows.start, first + rows.stop, device=q.device)
        hidden = None
        if columns is not None:
            hidden = columns.hidden(keys, rows, positive)
            scores.masked_fill_(hidden, -torch.inf)
        return scores, positive, hidden

    only_tile: tuple[Tensor, Tensor, Tensor | None] | None = None
    row_lse = q.new_empty(n)
    # Finite, since a column may be masked in every row of a tile, and -inf - -inf is not a number.
    column_max = q.new_full((pairs,), torch.finfo(q.dtype).min)
    column_sum = q.new_zeros(pairs)
    own = q.new_empty(n)
    # masked entries, rows whose positive has the highest logit
    counts = torch.zeros(2, dtype=torch.float64, device=q.device)
    for rows in tiles:
        scores, positive, hidden = logits(rows)
        row_lse[rows] = scores.logsumexp(dim=1)
        own[rows] = scores.gather(1, positive[:, None])[:, 0]
        highest = torch.maximum(column_max, scores[:, :pairs].amax(dim=0))
        column_sum = column_sum * (column_max - highest).exp() + (scores[:, :pairs] - highest).exp().sum(dim=0)
        column_max = highest
        counts[0] += 0 if hidden is None else hidden.sum()
        counts[1] += (own[rows] >= scores.amax(dim=1)).sum()
        if len(tiles) == 1:
            only_tile = scores, positive, hidden

    highest = workers.max(column_max.clone())
    column_lse = highest + workers.sum(column_sum * (column_max - highest).exp()).log()
    value = workers.sum((row_lse - own).sum() + (column_lse[first : first + n] - own).sum()) / (2 * pairs)

    dq, dd = torch.empty_like(q), torch.zeros_like(documents)
    dtau = q.new_zeros(())
    for rows in tiles:
        scores, positive, hidden = only_tile or logits(rows)
        gradient = (scores - row_lse[rows, None]).exp()
        gradient[:, :pairs] += (scores[:, :pairs] - column_lse).exp()
        gradient[torch.arange(len(positive), device=q.device), positive] -= 2
        gradient /= 2 * pairs
        if hidden is not None:
            scores = scores.masked_fill(hidden, 0)  # its gradient is 0, and 0 * -inf is not
        dtau += (gradient * scores).sum()
        torch.mm(gradient, documents, out=dq[rows])
        dd.addmm_(gradient.T, q[rows])
    dq *= scale
    dd *= scale
    counts = workers.sum(counts)
    return Loss(
        value=value,
        dq=dq,
        dd=workers.sum_scatter(dd[:pairs]),
        dhard=workers.sum_scatter(dd[pairs:]) if len(hard) else dd[pairs:],
        dtau=workers.sum(dtau),
        masked=int(counts[0]),
        correct=float(counts[1]) / pairs,
    )


@dataclass(frozen=True)
class _Columns:
    """Content of all columns: positives of all ranks (B,), hard negatives of all ranks (H,)."""

    x_hash: Tensor
    y_hash: Tensor
    cluster: Tensor
    hard_hash: Tensor

    @staticmethod
    def gather(keys: Keys, workers: Workers) -> _Columns:
        hard = workers.all_gather(keys.hard_hash) if len(keys.hard_hash) else keys.hard_hash
        return _Columns(
            workers.all_gather(keys.x_hash), workers.all_gather(keys.y_hash), workers.all_gather(keys.cluster), hard
        )

    def hidden(self, keys: Keys, rows: slice, positive: Tensor) -> Tensor:
        """(t, N) bool: True where a logit must not count as a negative."""
        same = keys.x_hash[rows, None] == self.x_hash
        same |= keys.y_hash[rows, None] == self.y_hash
        same |= keys.cluster[rows, None] == self.cluster
        same[torch.arange(len(positive), device=same.device), positive] = False
        if len(self.hard_hash):
            same = torch.cat([same, keys.y_hash[rows, None] == self.hard_hash], dim=1)
        return same
