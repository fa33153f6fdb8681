"""Sentence similarity: Spearman's rank correlation of the cosine with people's scores (STS-B, STS 12-16, SICK-R)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed


class Similarity(Options):
    """Sentence similarity: two sentences a row and what people say of them."""

    metric: ClassVar[str] = "spearman"
    kind: Literal["similarity"] = "similarity"
    file: str = Field(description=".tsv file with the columns score, sentence1, sentence2")

    @property
    def title(self) -> str:
        return f"{Path(self.file).parent.name} {Path(self.file).stem}"

    def files(self) -> list[Path]:
        return [Path(self.file)]

    def texts(self) -> list[str]:
        from cpt_ray.evaluate.similarity import read_similarity

        task = read_similarity(self.file)
        return [*task.first, *task.second]

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.similarity import read_similarity, similarity

        return {"spearman": similarity(read_similarity(self.file), embed)}

    def items(self) -> list[tuple[str, str]]:
        from cpt_ray.evaluate.similarity import read_similarity

        task = read_similarity(self.file)
        return [(f"{a}\n{b}", f"{s:g}") for a, b, s in zip(task.first, task.second, task.score.tolist(), strict=True)]

    def fixed(self) -> dict[str, dict[str, float]]:
        return {"chance": {"spearman": 0.0}}
