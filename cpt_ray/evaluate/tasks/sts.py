"""A year of STS (12 to 16) as it was published, which SentEval downloads: several parts, each correlated by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed
    from cpt_ray.evaluate.similarity import SimilarityTask


class Year(Options):
    """Sentence similarity of a year of STS: the mean of its parts' correlations, weighted by their sizes (SentEval's)."""

    metric: ClassVar[str] = "spearman"
    kind: Literal["sts"] = "sts"
    folder: str = Field(description="folder with STS.input.<part>.txt and STS.gs.<part>.txt, such as STS12-en-test")

    @property
    def title(self) -> str:
        return Path(self.folder).name

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.similarity import year_files

        found = [path for both in year_files(self.folder).values() for path in both]
        return found or [Path(self.folder, "STS.input.*.txt")]

    def texts(self) -> list[str]:
        task = self._read()
        return [*task.first, *task.second]

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.similarity import by_part, similarity

        found = similarity(self._read(), embed)
        return {"spearman": found, **by_part(found)}

    def items(self) -> list[tuple[str, str]]:
        return self._read().items()

    def fixed(self) -> dict[str, dict[str, float]]:
        return {"chance": {"spearman": 0.0}}

    def _read(self) -> SimilarityTask:
        from cpt_ray.evaluate.similarity import read_year

        return read_year(self.folder)
