"""Cross-entropy of each query over all documents, and not the other way round (DPR, arXiv 2004.04906, section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cpt_ray.train.losses import Kind

if TYPE_CHECKING:
    from cpt_ray.train.loss import Embedded, Loss


class OneWay(Kind):
    """Each x among all y; what sentence-transformers' MultipleNegativesRankingLoss is by default."""

    kind: Literal["one_way"] = "one_way"

    def __call__(self, batch: Embedded) -> Loss:
        from torch.nn.functional import cross_entropy

        return batch.by_rows(lambda logits, positive: cross_entropy(logits, positive, reduction="none"))
