"""`cpt-ray search`: a query and an index become answers."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("search")  # ends here, before the imports below, which may take seconds

import logging
import os
from typing import TYPE_CHECKING

from cpt_ray.errors import UserError
from cpt_ray.model.options import Device
from cpt_ray.serve import served
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.search import Answer, search, show

from . import reads
from .options.search import PipelineOptions
from .summary import console

if TYPE_CHECKING:
    from cpt_ray.model.embedder import Embedder

log = logging.getLogger("cpt_ray")


def run(options: PipelineOptions) -> list[Answer]:
    """Search and print; returns the answers, best first."""
    index, embedder = open_index(options.folder, options.index, options.trained, options.device)
    answers = search(options.query, index, embedder.embed, options.k)
    show(options.query, answers, console())
    if (tokens := int(embedder.lengths([options.query])[0])) > (most := embedder.limit("x")):
        log.warning("the query has %d tokens; only the first %d were looked for", tokens, most)
    return answers


def open_index(folder: str, index: str | None, model: str | None, device: Device = "auto") -> tuple[Index, Embedder]:
    """The index and the model that made it, in fp32: measuring which precision is faster takes longer than one query.
    UserError where another one did."""
    at = index_at(folder, index)
    trained = model or os.path.join(folder, "code_model")
    reads.check("trained", "trained", trained)
    return served.open_index(at, trained, device, "fp32")


def index_at(folder: str, index: str | None) -> str:
    """The index that is meant. UserError where there is none."""
    at = index or os.path.join(folder, "index")
    if not os.path.isdir(at):
        raise UserError(
            "there is no index here", where=f"index={at}", fix="make one with `make run`, or `cpt-ray embed`"
        )
    return at
