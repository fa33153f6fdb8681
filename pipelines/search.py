"""Ask an index a question: cpt-ray search "parse an ISO date".

Prints the nearest functions with path and line.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from cpt_ray.errors import UserError
from cpt_ray.options import Options
from cpt_ray.serve.index import Index
from cpt_ray.serve.search import Answer, search, show
from pipelines import reads
from pipelines.cli import script
from pipelines.summary import console

if TYPE_CHECKING:
    from cpt_ray.model.embedder import Embedder

log = logging.getLogger("cpt_ray")

Device = Literal["auto", "cpu", "cuda"]
READS = {"folder": "folder", "index": "artifact", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray search`."""

    query: str = Field(description="what to look for; the words on the command line that are no key=value")
    folder: str = Field("outputs/demo", description="where index and model are, unless they are named")
    index: str | None = Field(None, description="an index; null: <folder>/index")
    trained: str | None = Field(None, description="the model that made it; null: <folder>/code_model")
    k: int = Field(10, ge=1, le=1000, description="answers")
    device: Device = Field("auto", description="where the model runs; auto: on a GPU where there is one")


def run(options: PipelineOptions) -> list[Answer]:
    """Search and print; returns the answers, best first."""
    index, embedder = open_index(options.folder, options.index, options.trained, options.device)
    answers = search(options.query, index, embedder.embed, options.k)
    show(options.query, answers, console())
    if (tokens := int(embedder.lengths([options.query])[0])) > (most := embedder.limit("x")):
        log.warning("the query has %d tokens; only the first %d were looked for", tokens, most)
    return answers


def open_index(folder: str, index: str | None, model: str | None, device: Device = "auto") -> tuple[Index, Embedder]:
    """The index and the model that made it. UserError where another one did."""
    at = index or os.path.join(folder, "index")
    if not os.path.isdir(at):
        raise UserError(
            "there is no index here", where=f"index={at}", fix="make one with `make run`, or `cpt-ray embed`"
        )
    trained = model or os.path.join(folder, "code_model")
    reads.check("trained", "trained", trained)
    opened = Index.open(at)

    from cpt_ray.model.embedder import Embedder  # seconds, so only when there is an index to search
    from cpt_ray.model.weights import weights_identity

    opened.check_model(weights_identity(trained), f"trained={trained}")
    return opened, Embedder(trained, device=device)


if __name__ == "__main__":
    script("search")
