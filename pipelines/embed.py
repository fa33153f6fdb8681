"""The flow of `cpt-ray embed`: texts become vectors, and vectors an index."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("embed")  # ends here, before the imports below, which may take seconds

import logging
import posixpath
from collections.abc import Iterable
from functools import partial

from cpt_ray.artifacts import Manifest, Wanted, check_flow, read_manifest, run_flow
from cpt_ray.artifacts.adopted import ADOPTED, adopt, find_parquet, is_artifact
from cpt_ray.artifacts.parquet import read_schema
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
    places = options.cluster
    out = places.folder(options.output) if options.index is None else places.on_disk(options.output)
    adopted = [] if is_artifact(options.source) else [_adopted(posixpath.join(out, "source"), options.source)]
    source = adopted[0].path if adopted else options.source
    wanted = adopted + flow(out, source, options.trained, options.embed, options.columns, options.index)
    check_flow(wanted)
    with connect(options.cluster) as resources, under("embed", EmbedOptions):
        check_flow(wanted, resources)
        made = run_flow(wanted)
    print_artifacts(made)
    say_cut(made.values())
    return made


def _adopted(path: str, source: str) -> Wanted:
    """Parquet files as an artifact."""
    schema = read_schema(find_parquet(source)[0])
    return Wanted(path, ADOPTED, lambda: adopt(path, source=source), gives=schema)


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
    kind: Kind | None = EXACT,
) -> list[Wanted]:
    """`embeddings` under `out`, and unless `kind` is None `index`."""
    vectors, index = posixpath.join(out, "embeddings"), posixpath.join(out, "index")

    def make_index(kind: Kind) -> Manifest:
        there = list(read_manifest(source).columns)
        shown = answer_columns(there, embed.text) if columns is None else list(columns)
        return build_index(index, embeddings=vectors, source=source, key=embed.key, columns=shown, kind=kind)

    made = [
        Wanted(
            vectors,
            EMBED,
            lambda: embed_table(vectors, source=source, model=model, options=embed),
            (source,),
            columns=(embed.key, embed.text),
        )
    ]
    if kind is not None:
        named = (embed.key, *(columns or ()))
        made.append(Wanted(index, INDEX, partial(make_index, kind), (source, vectors), columns=named))
    return made
