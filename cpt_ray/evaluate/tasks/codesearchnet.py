"""CodeSearchNet's annotated queries: which functions people found to answer them (evaluate/annotated.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.annotated import Judged
    from cpt_ray.evaluate.embed import Embed


class CodeSearchNet(Options):
    """Search for code by the 99 annotated queries: NDCG among the judged functions, and beside it in the whole ranking."""

    metric: ClassVar[str] = "ndcg"
    kind: Literal["codesearchnet"] = "codesearchnet"
    folder: str = Field(
        description="folder with annotationStore.csv, and for each language <language>.jsonl (url, code), .gz too, or"
        " CodeSearchNet's own <language>/final/jsonl"
    )

    @property
    def title(self) -> str:
        return f"{Path(self.folder).name} annotated"

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.annotated import ANNOTATIONS, function_files, read_judgements
        from cpt_ray.evaluate.lines import either

        path = either(Path(self.folder, ANNOTATIONS))
        if not path.is_file():
            return [path]
        return [
            path,
            *(one for name in sorted(read_judgements(str(path))) for one in function_files(self.folder, name)),
        ]

    def texts(self) -> list[str]:
        return [text for task in self._read() for text in task.functions]

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.annotated import scores_of
        from cpt_ray.ranking import cosine_tiles

        tasks = self._read()
        tiles = (cosine_tiles(embed(task.queries, "x"), embed(task.functions, "y")) for task in tasks)
        return scores_of(tasks, tiles)

    def fixed(self) -> dict[str, dict[str, float]]:
        import numpy as np

        from cpt_ray.evaluate.annotated import scores_of
        from cpt_ray.evaluate.baselines import bm25_tiles

        tasks = self._read()
        alike = ((np.zeros((1, len(task.functions)), np.float32) for _ in task.queries) for task in tasks)
        found = (bm25_tiles(task.queries, task.functions) for task in tasks)
        return {"bm25": scores_of(tasks, found), "chance": scores_of(tasks, alike)}

    def items(self) -> list[tuple[str, str]]:
        import numpy as np

        return [
            (f"{query} ({task.language})", task.functions[at[int(np.argmax(gain))]] if len(at) else "")
            for task in self._read()
            for query, at, gain in zip(task.queries, task.at, task.gain, strict=True)
        ]

    def _read(self) -> list[Judged]:
        from cpt_ray.evaluate.annotated import judged

        return judged(self.folder)
