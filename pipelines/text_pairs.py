"""The flow of `cpt-ray text-pairs`: archives become documents, clusters and pairs."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("text_pairs")  # ends here, before the imports below, which may take seconds

import os
import posixpath

from cpt_ray.artifacts import Manifest, Wanted, read_manifest, read_table
from cpt_ray.corpus import extract_archives
from cpt_ray.dedup.clean import CLEAN, clean_documents
from cpt_ray.dedup.cluster import CLUSTER, deduplicate
from cpt_ray.pairs.make import TEXT_PAIRS, make_text_pairs
from cpt_ray.web import filters
from cpt_ray.web.extract import DOCUMENTS, EXTRACT
from cpt_ray.web.index import SELECT
from cpt_ray.web.index import select as make_selected
from cpt_ray.web.options import ExtractOptions, NetworkOptions, SelectOptions
from cpt_ray.web.remote import Remote
from cpt_ray.web.sources import Sources, find_sources, join

from . import flows
from .options.text_pairs import PipelineOptions, Steps

_SELECT, _NETWORK = SelectOptions(), NetworkOptions()
SHARD_RECORDS = 1_000
"""Records in a shard that are read one by one: some minutes from a distant server."""


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the pairs and what lies before them; returns the manifests by path."""
    filters.check(options.extract.filters)
    sources = find_sources(options.archive, options.select.base, Remote(options.network))
    wanted = flow(
        options.cluster.folder(options.output), options.archive, options, options.select, options.network, sources
    )
    return flows.make(wanted, options.cluster)


def flow(
    out: str,
    archive: str,
    steps: Steps,
    select: SelectOptions = _SELECT,
    network: NetworkOptions = _NETWORK,
    sources: Sources | None = None,
) -> list[Wanted]:
    """`documents` (as extracted), `clean_documents`, `document_clusters` and `text_pairs` (of the clean ones) under
    `out`; before them `selected`, where an index says what is read."""
    chosen, raw, clean, clusters, pairs = (
        posixpath.join(out, name)
        for name in ("selected", "documents", "clean_documents", "document_clusters", "text_pairs")
    )
    if sources is not None and sources.by_index:
        base = sources.base
        first = [
            Wanted(chosen, SELECT, lambda: make_selected(chosen, sources.files, options=select, network=network)),
            Wanted(raw, EXTRACT, lambda: extract_selected(raw, chosen, base, steps.extract, network), (chosen,)),
        ]
    else:
        first = [Wanted(raw, EXTRACT, lambda: extract_archives(raw, archive, steps.extract, network, sources))]
    return [
        *first,
        Wanted(clean, CLEAN, lambda: clean_documents(clean, raw, options=steps.clean), (raw,), gives=DOCUMENTS),
        Wanted(
            clusters,
            CLUSTER,
            lambda: deduplicate(clusters, clean, id_column="doc_id", text_column="text", options=steps.dedup),
            (clean,),
            columns=("doc_id", "text", *steps.dedup.columns),
        ),
        Wanted(
            pairs,
            TEXT_PAIRS,
            lambda: make_text_pairs(
                pairs, documents=clean, clusters=clusters, neighbours=steps.neighbours, split=steps.split
            ),
            (clean, clusters),
        ),
    ]


def extract_selected(path: str, selected: str, base: str, options: ExtractOptions, network: NetworkOptions) -> Manifest:
    """The documents artifact of the records that an index named, a part for each SHARD_RECORDS of them."""
    table = read_table(selected, ["file", "offset", "length"])
    records = [
        [join(base, name), offset, length] for name, offset, length in zip(*table.to_pydict().values(), strict=True)
    ]
    return EXTRACT.map(
        path,
        params=options,
        inputs={"selected": read_manifest(selected)},
        shards=[{"records": records[at : at + SHARD_RECORDS]} for at in range(0, len(records), SHARD_RECORDS)],
        options=options,
        network=network,
        extra={"archive": base if "://" in base else os.path.abspath(base)},
    )
