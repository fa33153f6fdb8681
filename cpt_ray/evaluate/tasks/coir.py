"""Search in the layout of CoIR (Li et al. 2024), as its data sets lie on the hub: code by questions, by code, and so on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt_ray.evaluate.tasks.beir import Beir

if TYPE_CHECKING:
    from cpt_ray.evaluate.search import BeirTask


class Coir(Beir):
    """Search: as kind beir, of Parquet or JSON lines in CoIR's folders."""

    kind: Literal["coir"] = "coir"  # type: ignore[assignment]
    folder: str = Field(
        description="<name> of the folders <name>-queries-corpus and <name>-qrels, or one with all their files"
    )

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.search import coir_files

        found = coir_files(self.folder, self.split)
        return [path for part, paths in found.items() for path in paths or [Path(self.folder, f"{part}-*.parquet")]]

    def _task(self) -> BeirTask:
        from cpt_ray.evaluate.search import read_coir

        return read_coir(self.folder, self.split)
