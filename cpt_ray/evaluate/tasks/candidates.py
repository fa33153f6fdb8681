"""Search among 1,000 held-out pairs of an artifact, the paper's code-search setting (evaluate/candidates.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cpt_ray.evaluate.options import CandidateOptions

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed


class Candidates(CandidateOptions):
    """Search among candidates: the held-out pairs of an artifact, each x a query."""

    metric: ClassVar[str] = "mrr"
    kind: Literal["candidates"] = "candidates"
    pairs: str = Field(description="a pairs artifact; its held-out part is searched")

    @property
    def title(self) -> str:
        return f"{Path(self.pairs).name} {self.candidates:,}"

    def files(self) -> list[Path]:
        return [Path(self.pairs, "manifest.json")]

    def texts(self) -> list[str]:
        held: list[str] = self._heldout().column("y").to_pylist()
        return held

    def scores(self, embed: Embed) -> dict[str, float]:
        from cpt_ray.evaluate.candidates import draw
        from cpt_ray.evaluate.search import search_blocks

        held = self._heldout()
        return search_blocks(held, draw(held, self), embed)

    def fixed(self) -> dict[str, dict[str, float]]:
        from cpt_ray.evaluate.search import compare

        found = compare(self._heldout(), self, {})
        return {"bm25": found["bm25"], "chance": found["chance"]}

    def items(self) -> list[tuple[str, str]]:
        from cpt_ray.evaluate.candidates import draw

        held = self._heldout()
        rows = [row for block in draw(held, self) for row in block.rows.tolist()]
        chosen = held.select(["x", "y"]).take(rows)
        return list(zip(chosen.column("x").to_pylist(), chosen.column("y").to_pylist(), strict=True))

    def _heldout(self) -> Any:
        from cpt_ray.pairs.splits import HELDOUT, read_side

        return read_side(self.pairs, HELDOUT)
