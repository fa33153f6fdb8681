"""Classification by a linear probe on frozen embeddings, SentEval's protocol (Conneau and Kiela 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.evaluate.named import local, name_of
from cpt_ray.options import Options

if TYPE_CHECKING:
    import numpy as np

    from cpt_ray.evaluate.embed import Embed


class Classification(Options):
    """Linear probe: train.tsv, test.tsv and maybe dev.tsv; or all.tsv alone, in ten folds; or SentEval's own files."""

    metric: ClassVar[str] = "accuracy"
    kind: Literal["classification"] = "classification"
    folder: str = Field(
        description="folder of .tsv files with the columns label, text, or as SentEval has them; or a name, as"
        " datasets:SetFit/subj"
    )

    @property
    def title(self) -> str:
        return name_of(self.folder)

    def files(self) -> list[Path]:
        return [path for part in self._parts() for path in part]

    def texts(self) -> list[str]:
        return self._read(0)[0]

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.probe import accuracy, cross_validated

        parts = []
        for number in range(len(self._parts())):
            texts, labels = self._read(number)
            parts.append((embed(texts, "x"), labels))
        if len(parts) == 1:
            return {"accuracy": cross_validated(*parts[0])}
        return {"accuracy": accuracy(*parts[0], *parts[1], dev=parts[2] if len(parts) == 3 else None)}

    def fixed(self) -> dict[str, dict[str, float]]:
        """The share of the commonest class of the test part: what one answer to everything scores."""
        import numpy as np

        labels = self._read(min(1, len(self._parts()) - 1))[1]
        return {"chance": {"accuracy": float(np.bincount(labels).max() / len(labels))}}

    def items(self) -> list[tuple[str, str]]:
        texts, labels = self._read(min(1, len(self._parts()) - 1))
        return [(text, str(label)) for text, label in zip(texts, labels.tolist(), strict=True)]

    def _parts(self) -> list[tuple[Path, ...]]:
        from cpt_ray.evaluate.labelled import parts

        return parts(local(self.folder, "classification"))

    def _read(self, number: int) -> tuple[list[str], np.ndarray]:
        from cpt_ray.evaluate.labelled import read_part

        return read_part(self._parts()[number])
