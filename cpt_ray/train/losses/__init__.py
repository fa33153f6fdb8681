"""Kinds of contrastive loss, a file each; `train.loss.kind` chooses one.

A kind is a class of options with `kind` (kinds.py) that derives from Kind. It is called once a step, between the two passes
of gradient caching, under every engine. What it is given (`Embedded`, loss.py) gathers, cuts and masks; a loss that is a mean
over the queries needs no more than a function of a tile's logits (`Embedded.by_rows`). The temperature is all that a loss has
to train. A kind imports nothing heavy outside of its methods.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.train.loss import Embedded, Loss


class Kind(Options):
    """What a module of this folder gives."""

    @abstractmethod
    def __call__(self, batch: Embedded) -> Loss:
        """The loss of a global batch with its gradients by the embeddings and by tau. Every rank calls it."""
