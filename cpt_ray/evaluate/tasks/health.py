"""The space of embeddings without labels: alignment, uniformity, effective rank, hubness (evaluate/health.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cpt_ray.evaluate.named import name_of
from cpt_ray.options import Options

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed


class Health(Options):
    """Health without labels: pairs that belong together, such as queries and an answer of each, and nothing else."""

    metric: ClassVar[str] = "effective_rank"
    kind: Literal["health"] = "health"
    folder: str = Field(
        description="a folder as of kind beir, of which each query with an answer is a pair; or a pairs artifact"
    )
    split: str = Field("test", description="qrels file of a folder as of kind beir")
    most: int = Field(2000, ge=3, description="pairs that are looked at, the first ones")

    @property
    def title(self) -> str:
        return f"{name_of(self.folder)} health"

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.tasks.beir import Beir

        if Path(self.folder, "manifest.json").is_file():
            return [Path(self.folder, "manifest.json")]
        return Beir(folder=self.folder, split=self.split).files()

    def texts(self) -> list[str]:
        return [answer for _, answer in self._pairs()]

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.health import health

        pairs = self._pairs()
        queries, answers = [query for query, _ in pairs], [answer for _, answer in pairs]
        return health(embed(queries, "x"), embed(answers, "y"), [len(answer) for answer in answers])

    def fixed(self) -> dict[str, dict[str, float]]:
        return {}

    def _pairs(self) -> list[tuple[str, str]]:
        """Pairs of different answers: one that occurs twice would be its own neighbour."""
        from cpt_ray.errors import UserError

        first: dict[str, str] = {}
        for query, answer in self._all():
            first.setdefault(answer, query)
        pairs = [(query, answer) for answer, query in first.items()][: self.most]
        if len(pairs) < 3:
            raise UserError(f"{len(pairs)} pairs of different answers", where=self.folder, fix="give three at least")
        return pairs

    def _all(self) -> Any:
        if not Path(self.folder, "manifest.json").is_file():
            from cpt_ray.evaluate.tasks.beir import Beir

            return Beir(folder=self.folder, split=self.split).items()
        from cpt_ray.pairs.splits import HELDOUT, read_side

        held = read_side(self.folder, HELDOUT, ["x", "y"])
        return zip(held.column("x").to_pylist(), held.column("y").to_pylist(), strict=True)
