"""Sentence similarity: Spearman's rank correlation of the cosine with people's scores (STS-B, SICK-R)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.evaluate.named import is_name, local, name_of
from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed


class Similarity(Options):
    """Sentence similarity: two sentences a row and what people say of them."""

    metric: ClassVar[str] = "spearman"
    kind: Literal["similarity"] = "similarity"
    file: str = Field(
        description=".tsv file with the columns score, sentence1, sentence2, or one of SICK; or a name, as mteb:STS12"
    )
    split: str = Field("test", description="of data by name: which of its splits")

    @property
    def title(self) -> str:
        if is_name(self.file):
            return f"{name_of(self.file)} {self.split}"
        return f"{Path(self.file).parent.name} {Path(self.file).stem}"

    def files(self) -> list[Path]:
        if is_name(self.file):
            return [local(self.file, "similarity", self.split) / f"{self.split}.tsv"]
        from cpt_ray.evaluate.lines import either

        return [either(Path(self.file))]

    def texts(self) -> list[str]:
        from cpt_ray.evaluate.similarity import read_similarity

        task = read_similarity(str(self.files()[0]))
        return [*task.first, *task.second]

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.similarity import read_similarity, similarity

        return {"spearman": similarity(read_similarity(str(self.files()[0])), embed)}

    def items(self) -> list[tuple[str, str]]:
        from cpt_ray.evaluate.similarity import read_similarity

        return read_similarity(str(self.files()[0])).items()

    def fixed(self) -> dict[str, dict[str, float]]:
        return {"chance": {"spearman": 0.0}}
