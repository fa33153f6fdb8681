"""The flow of `cpt-ray embed`: texts become vectors, and vectors an index."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("embed")  # ends here, before the imports below, which may take seconds

import logging
import posixpath
from collections.abc import Iterable

from cpt_ray.artifacts import Manifest, Wanted, check_flow, read_manifest, run_flow
from cpt_ray.cluster import connect
from cpt_ray.serve.embed import CUT, EMBED, embed_table
from cpt_ray.serve.index import EXACT, INDEX, build_index
from cpt_ray.serve.indexes import Kind
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.serve.search import answer_columns

from . import reads
from .config import under
from .options.embed import READS, PipelineOptions
from .summary import print_artifacts

log = logging.getLogger("cpt_ray")


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the vectors and the index; returns the manifests by path."""
    reads.check_options(READS, options)
    out = options.cluster.on_disk(options.output)
    wanted = flow(out, options.source, options.trained, options.embed, options.columns, options.index)
    with connect(options.cluster) as resources, under("embed", EmbedOptions):
        check_flow(wanted, resources)
        made = run_flow(wanted)
    print_artifacts(made)
    say_cut(made.values())
    return made


def say_cut(made: Iterable[Manifest]) -> None:
    """A line where texts were longer than the model takes: their vectors are of their beginnings."""
    for units in (manifest.balance.units for manifest in made):
        if CUT in units and units[CUT].read:
            log.warning(
                "%s of %s texts are longer than the model takes and were cut", units[CUT].read, units["texts"].read
            )


def flow(
    out: str,
    source: str,
    model: str,
    embed: EmbedOptions,
    columns: tuple[str, ...] | None = None,
    kind: Kind = EXACT,
) -> list[Wanted]:
    """`embeddings` and `index` under `out`."""
    vectors, index = posixpath.join(out, "embeddings"), posixpath.join(out, "index")

    def make_index() -> Manifest:
        there = list(read_manifest(source).columns)
        shown = answer_columns(there, embed.text) if columns is None else list(columns)
        return build_index(index, embeddings=vectors, source=source, key=embed.key, columns=shown, kind=kind)

    return [
        Wanted(
            vectors,
            EMBED,
            lambda: embed_table(vectors, source=source, model=model, options=embed),
            (source,),
            columns=(embed.key, embed.text),
        ),
        Wanted(index, INDEX, make_index, (source, vectors), columns=(embed.key, *(columns or ()))),
    ]
