"""What every contrastive loss stands on: embeddings of all ranks, logits by tiles of rows, masks, and gradients.

    logits S = q d^T exp(tau)

Shapes: n pairs on this rank, B = n * ranks pairs in all, h hard negatives on this rank, H = h * ranks in all, N = B + H,
D the embedding, t rows of a tile. Queries q stay where they are; only documents d are gathered. A rank holds the rows of its
own queries, complete, and a part of every column.

Masked logits (a false negative is not a negative): off the diagonal, where two pairs share the content of x, the content
of y, or a duplicate cluster; and a hard negative whose content is the row's own y. Rows and columns use one mask. Hard
negatives are appended after all positives and are columns only: no query belongs to them.

Everything is computed in the dtype of q, which must be float32 (or float64 in tests): bf16 logits cost 0.3-1.3 % of the
gradient. Every rank returns the same global loss; gradients are those of the global loss, not divided by anything.

Which loss it is says a kind of `losses/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cpt_ray.train.collectives import Workers

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits (t, N), masked ones at -inf; columns of the positives (t,)) -> differentiable losses (t,)."""


@dataclass(frozen=True)
class Keys:
    """Content of the pairs of this rank, (n,) int64 each; hard negatives have content only, (h,)."""

    x_hash: Tensor
    y_hash: Tensor
    cluster: Tensor
    hard_hash: Tensor


@dataclass(frozen=True)
class Loss:
    """What a loss gives. dq (n, D), dd (n, D), dhard (h, D) are of this rank, the rest is global."""

    value: Tensor
    dq: Tensor
    dd: Tensor
    dhard: Tensor
    dtau: Tensor
    masked: int
    correct: float


@dataclass(frozen=True)
class Tile:
    """(t, N) logits with masked ones at -inf, the columns of their positives (t,), and the mask (t, N), None without."""

    logits: Tensor
    positive: Tensor
    hidden: Tensor | None

    def own(self) -> Tensor:
        """(t,) logits of the positives."""
        return self.logits.gather(1, self.positive[:, None])[:, 0]

    def counts(self) -> Tensor:
        """(2,) float64: masked logits, and rows whose positive has the highest."""
        correct = (self.own() >= self.logits.amax(dim=1)).sum()
        masked = torch.zeros_like(correct) if self.hidden is None else self.hidden.sum()
        return torch.stack([masked, correct]).double()


@dataclass(frozen=True)
class Embedded:
    """A global batch between the two passes, as one rank holds it.

    q, d (n, D) and hard (h, D) L2-normalised, without graphs; n and h equal on all ranks; tau a scalar.
    """

    q: Tensor
    d: Tensor
    hard: Tensor
    tau: Tensor
    keys: Keys
    workers: Workers
    mask: bool = True
    tile_rows: int = 512

    def __post_init__(self) -> None:
        assert self.q.dtype in (torch.float32, torch.float64), "the loss is never computed in half precision"

    @property
    def pairs(self) -> int:
        """B."""
        return len(self.q) * self.workers.count

    @property
    def first(self) -> int:
        """Column of the positive of this rank's row 0."""
        return self.workers.rank * len(self.q)

    @cached_property
    def scale(self) -> Tensor:
        """exp(tau)."""
        return self.tau.detach().to(self.q.dtype).exp()

    @cached_property
    def documents(self) -> Tensor:
        """(N, D): d of all ranks, then hard of all ranks."""
        if not len(self.hard):
            return self.workers.all_gather(self.d)
        return torch.cat([self.workers.all_gather(self.d), self.workers.all_gather(self.hard)])

    def tiles(self) -> list[slice]:
        n = len(self.q)
        return [slice(start, min(start + self.tile_rows, n)) for start in range(0, n, self.tile_rows)]

    def tile(self, rows: slice) -> Tile:
        scores = (self.q[rows] * self.scale) @ self.documents.T
        positive = torch.arange(self.first + rows.start, self.first + rows.stop, device=self.q.device)
        hidden = None
        if self.mask:
            hidden = self._false_negatives(rows, positive)
            scores.masked_fill_(hidden, -torch.inf)
        return Tile(scores, positive, hidden)

    def no_counts(self) -> Tensor:
        """Where `Tile.counts` are added up."""
        return torch.zeros(2, dtype=torch.float64, device=self.q.device)

    def gradients(self) -> Gradients:
        """Zeros, to which tiles are added."""
        dtau, dd = self.q.new_zeros(()), torch.zeros_like(self.documents)
        return Gradients(self, torch.zeros_like(self.q), dd, dtau)

    def by_rows(self, function: RowLoss) -> Loss:
        """The mean over all pairs of what `function` gives for each query, whose gradient is autograd's."""
        gradients, counts, value = self.gradients(), self.no_counts(), self.q.new_zeros(())
        for rows in self.tiles():
            tile = self.tile(rows)
            with torch.enable_grad():
                logits = tile.logits.detach().requires_grad_()
                of_rows = function(logits, tile.positive).sum() / self.pairs
                (gradient,) = torch.autograd.grad(of_rows, logits)
            value += of_rows.detach()
            counts += tile.counts()
            gradients.add(rows, tile, gradient)
        return gradients.loss(self.workers.sum(value), counts)

    def _false_negatives(self, rows: slice, positive: Tensor) -> Tensor:
        """(t, N) bool: True where a logit must not count as a negative."""
        own, others = self.keys, self._columns
        same = own.x_hash[rows, None] == others.x_hash
        same |= own.y_hash[rows, None] == others.y_hash
        same |= own.cluster[rows, None] == others.cluster
        same[torch.arange(len(positive), device=same.device), positive] = False
        if len(others.hard_hash):
            same = torch.cat([same, own.y_hash[rows, None] == others.hard_hash], dim=1)
        return same

    @cached_property
    def _columns(self) -> Keys:
        """Content of all columns: positives of all ranks (B,), hard negatives of all ranks (H,)."""
        x_hash, y_hash, cluster, hard = (
            self.workers.all_gather(key) if len(key) else key
            for key in (self.keys.x_hash, self.keys.y_hash, self.keys.cluster, self.keys.hard_hash)
        )
        return Keys(x_hash, y_hash, cluster, hard)


@dataclass(frozen=True)
class Gradients:
    """The gradients of a loss as its tiles are gone through: dq (n, D), dd (N, D), dtau; `add` changes them."""

    batch: Embedded
    dq: Tensor
    dd: Tensor
    dtau: Tensor

    def add(self, rows: slice, tile: Tile, gradient: Tensor) -> None:
        """`gradient` (t, N) of the whole loss by the tile's logits, 0 where they are masked."""
        scores = tile.logits if tile.hidden is None else tile.logits.masked_fill(tile.hidden, 0)  # 0 * -inf is not 0
        self.dtau.add_((gradient * scores).sum())
        torch.mm(gradient, self.batch.documents, out=self.dq[rows])
        self.dd.addmm_(gradient.T, self.batch.q[rows])

    def loss(self, value: Tensor, counts: Tensor) -> Loss:
        """The loss of the global `value`, reduced over the ranks; `counts` are the sums of this rank's `Tile.counts`."""
        workers, pairs = self.batch.workers, self.batch.pairs
        dq, dd = self.dq * self.batch.scale, self.dd * self.batch.scale
        counts = workers.sum(counts)
        return Loss(
            value=value,
            dq=dq,
            dd=workers.sum_scatter(dd[:pairs]),
            dhard=workers.sum_scatter(dd[pairs:]) if len(self.batch.hard) else dd[pairs:],
            dtau=workers.sum(self.dtau),
            masked=int(counts[0]),
            correct=float(counts[1]) / pairs,
        )
