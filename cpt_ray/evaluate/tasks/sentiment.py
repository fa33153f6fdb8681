"""SST-2 without training: the nearer of two prompts, and the vote of the 256 nearest neighbours (arXiv 2201.10005, 4.1)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.evaluate.named import local, name_of
from cpt_ray.options import Options

if TYPE_CHECKING:
    import numpy as np

    from cpt_ray.evaluate.embed import Embed


class Sentiment(Options):
    """Classification without training: by prompts, and by nearest neighbours among train.tsv."""

    metric: ClassVar[str] = "zero_shot"
    kind: Literal["sentiment"] = "sentiment"
    folder: str = Field(
        description="folder with train.tsv and test.tsv (label, text); or a name, as datasets:SetFit/sst2"
    )
    prompts: tuple[str, ...] = Field(
        ("this is an example of a negative movie review.", "this is an example of a positive movie review."),
        description="a text for each label, in the order of the labels (the paper's)",
    )
    neighbours: int = Field(256, ge=1, description="nearest training texts that vote (the paper's 256)")

    @property
    def title(self) -> str:
        return f"{name_of(self.folder)} untrained"

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.labelled import parts

        root = local(self.folder, "classification")
        found = parts(root)
        if len(found) < 2:
            return [root / "train.tsv", root / "test.tsv"]
        return [found[0][0], found[1][0]]

    def texts(self) -> list[str]:
        return self._read(0)[0]

    def scores(self, embed: Embed) -> dict[str, float]:
        import numpy as np

        from cpt_ray.errors import UserError
        from cpt_ray.evaluate.probe import vote
        from cpt_ray.evaluate.statistics import Figure

        (known, classes), (texts, labels) = self._read(0), self._read(1)
        if max(classes.max(), labels.max()) >= len(self.prompts):
            raise UserError(
                f"labels up to {max(classes.max(), labels.max())} and {len(self.prompts)} prompts",
                where=self.folder,
                fix="give prompts=[...], one for each label from 0",
            )
        wanted, prompts = embed(texts, "x"), embed(list(self.prompts), "x")
        found = {
            "zero_shot": np.argmax(wanted @ prompts.T, axis=1),
            "neighbours": vote(wanted, embed(known, "x"), classes, self.neighbours),
        }
        return {name: Figure.of(said == labels, [str(label) for label in said]) for name, said in found.items()}

    def fixed(self) -> dict[str, dict[str, float]]:
        import numpy as np

        labels = self._read(1)[1]
        share = float(np.bincount(labels).max() / len(labels))
        return {"chance": {"zero_shot": share, "neighbours": share}}

    def items(self) -> list[tuple[str, str]]:
        texts, labels = self._read(1)
        return [(text, str(label)) for text, label in zip(texts, labels.tolist(), strict=True)]

    def _read(self, number: int) -> tuple[list[str], np.ndarray]:
        from cpt_ray.evaluate.labelled import read_classification

        return read_classification(str(self.files()[number]))
