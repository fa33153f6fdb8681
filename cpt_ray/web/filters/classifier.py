"""Documents that a classifier takes for bad: a model of fastText, or one trained by `cpt-ray quality-model`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from cpt_ray.web.filters import Document, Filter, state


class Classifier(Filter):
    """Drop a document, as `classifier`, whose score is below a bound; the score is the column `classifier_score`."""

    kind: Literal["classifier"] = "classifier"
    model: str = Field(
        description="model.safetensors of cpt-ray quality-model, or a .bin or .ftz of fastText; on a cluster on each machine"
    )
    label: str = Field("__label__hq", description="of a model of fastText: the label whose probability is the score")
    min_score: float = Field(0.5, ge=0, le=1, description="dropped below; 0 drops nothing and fills the column")

    def files(self) -> list[Path]:
        return [Path(self.model)]

    def reason(self, document: Document) -> str | None:
        return "classifier" if self._score(document.text) < self.min_score else None

    def changed(self, document: Document) -> Document:
        return document._replace(score=self._score(document.text))

    def _score(self, text: str) -> float:
        return _scored(self.model, self.label, *state(self.model), text)


@lru_cache(maxsize=1)
def _scored(model: str, label: str, changed: int, size: int, text: str) -> float:
    """A document is asked for twice: whether it goes, and what its score is."""
    from cpt_ray.web.classifier import load  # options import the filters, and must not wait for it

    return load(model, label, changed, size).score(text)
