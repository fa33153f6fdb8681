"""Search in a corpus: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, the layout of BEIR (Thakur et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed
    from cpt_ray.evaluate.search import BeirTask


class Beir(Options):
    """Search: each query among all documents of the corpus."""

    metric: ClassVar[str] = "ndcg_at_10"
    kind: Literal["beir"] = "beir"
    folder: str = Field(description="folder with corpus.jsonl, queries.jsonl and qrels/")
    split: str = Field("test", description="qrels file; its queries alone are searched")

    language: str | None = Field(
        None, description="of a corpus of functions, such as python: they are searched without documentation too"
    )

    @property
    def title(self) -> str:
        return Path(self.folder).name

    def files(self) -> list[Path]:
        root = Path(self.folder)
        return [root / "corpus.jsonl", root / "queries.jsonl", root / "qrels" / f"{self.split}.tsv"]

    @field_validator("language")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        from cpt_ray.code.grammars import GRAMMARS

        if value is not None and value not in GRAMMARS:
            raise ValueError(f"a language is one of {', '.join(GRAMMARS)}, not {value!r}")
        return value

    def texts(self) -> list[str]:
        return self._read().corpus

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.search import search_beir

        return self._both(lambda task: search_beir(task, embed))

    def fixed(self) -> dict[str, dict[str, float]]:
        from cpt_ray.evaluate.search import bm25_beir, chance_beir

        return {"bm25": self._both(bm25_beir), "chance": self._both(chance_beir)}

    def items(self) -> list[tuple[str, str]]:
        return self._read().items()

    def _both(self, search: Callable[[BeirTask], dict[str, float]]) -> dict[str, float]:
        """The figures of the corpus as it is; `merged_<metric>` those with its duplicates as one document, and
        `undocumented_<metric>` those of code without its documentation."""
        task = self._read()
        others, merged = {}, task.merged()
        if len(merged.corpus) < len(task.corpus):
            others["merged"] = merged
        if self.language is not None:
            others["undocumented"] = task.undocumented(self.language)
        scores = search(task)
        for name, other in others.items():
            scores |= {f"{name}_{metric}": value for metric, value in search(other).items()}
        return scores

    def _read(self) -> BeirTask:
        from cpt_ray.evaluate.search import read_beir

        return read_beir(self.folder, self.split)
