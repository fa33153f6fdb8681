"""Search in a corpus: `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, the layout of BEIR (Thakur et al. 2021)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from cpt_ray.evaluate.named import local, name_of
from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed
    from cpt_ray.evaluate.search import BeirTask


class Beir(Options):
    """Search: each query among all documents of the corpus."""

    metric: ClassVar[str] = "ndcg_at_10"
    kind: Literal["beir"] = "beir"
    folder: str = Field(description="folder with corpus.jsonl, queries.jsonl and qrels/; or a name, as mteb:CosQA")
    split: str = Field("test", description="qrels file; its queries alone are searched")

    language: str | None = Field(
        None, description="of a corpus of functions, such as python: they are searched without documentation too"
    )
    graph: int | None = Field(
        None,
        ge=1,
        description="search vectors by a graph of neighbours too (HNSW), looking at so many of them at least; null: exactly"
        " alone",
    )

    @property
    def title(self) -> str:
        return name_of(self.folder)

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.lines import either

        names = ("corpus.jsonl", "queries.jsonl", f"qrels/{self.split}.tsv")
        return [either(self._root() / name) for name in names]

    @field_validator("language")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        from cpt_ray.code.grammars import GRAMMARS

        if value is not None and value not in GRAMMARS:
            raise ValueError(f"a language is one of {', '.join(GRAMMARS)}, not {value!r}")
        return value

    def texts(self) -> list[str]:
        return self._read()[""].corpus

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.embed import remembered
        from cpt_ray.evaluate.search import graph_beir, search_beir

        embed = remembered(embed)
        found = self._all(lambda task: search_beir(task, embed))
        if self.graph is not None:
            by_graph = graph_beir(self._read()[""], embed, self.graph)
            found |= {f"graph_{name}": value for name, value in by_graph.items()}
        return found

    def fixed(self) -> dict[str, dict[str, float]]:
        from cpt_ray.evaluate.search import bm25_beir, chance_beir

        return {"bm25": self._all(bm25_beir), "chance": self._all(chance_beir)}

    def items(self) -> list[tuple[str, str]]:
        return self._read()[""].items()

    def _all(self, search: Callable[[BeirTask], dict[str, float]]) -> dict[str, float]:
        """The figures of the corpus as it is, and of its variants as `<variant>_<metric>`."""
        scores: dict[str, float] = {}
        for variant, task in self._read().items():
            scores |= {f"{variant}_{name}" if variant else name: value for name, value in search(task).items()}
        return scores

    def _root(self) -> Path:
        return local(self.folder, "beir", self.split)

    def _task(self) -> BeirTask:
        from cpt_ray.evaluate.search import read_beir

        return read_beir(str(self._root()), self.split)

    def _read(self) -> dict[str, BeirTask]:
        state = (path.stat() for path in self.files())
        return _variants(self, tuple((one.st_mtime_ns, one.st_size) for one in state))


@functools.lru_cache(maxsize=1)  # every method of a task asks for it, and taking documentation out takes a while
def _variants(search: Beir, state: object) -> dict[str, BeirTask]:
    """The task as it is; `merged` with its duplicates as one document, if there are any, and `undocumented` with code of a
    language without its documentation."""
    task, language = search._task(), search.language
    found, merged = {"": task}, task.merged()
    if len(merged.corpus) < len(task.corpus):
        found["merged"] = merged
    if language is not None:
        found["undocumented"] = task.undocumented(language)
    return found
