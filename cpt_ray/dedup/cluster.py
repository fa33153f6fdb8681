"""Deduplication, phase by phase: signatures -> exact layer -> candidates -> sets -> comparisons -> clusters.

Every costly phase is an artifact of its own under `<out>.phases`, so a killed run goes on from the last finished part.
What lies between them is a pure function of those artifacts and is computed again. The result depends on the documents
and the options alone: not on their order, on how they are cut into files, or on the number of workers.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts
from cpt_ray.artifacts.columns import narrow
from cpt_ray.artifacts.places import clear_cut
from cpt_ray.artifacts.store import part_name, phases_of
from cpt_ray.dedup import bands, known, signatures
from cpt_ray.dedup.corpus import Corpus
from cpt_ray.dedup.kernels import I64
from cpt_ray.dedup.near import Near, Source, near_layer
from cpt_ray.dedup.options import DedupOptions

SIGNATURES, KNOWN = "signatures", "known"

NO_WORDS = "no words: kept, compared with nothing"
"""The rule of a document without any word (empty, blank, no text): whether it is of use is decided elsewhere."""

CLUSTERS = pa.schema(
    [
        pa.field("doc_id", pa.string()),
        pa.field("cluster_id", pa.string()),
        pa.field("cluster_size", pa.int64()),
        pa.field("kept", pa.bool_()),
        pa.field("matched_id", pa.string()),
        pa.field("similarity", pa.float32()),
        pa.field("shared_bands", pa.int16()),
        pa.field("layer", pa.string()),
        pa.field("rule", pa.string()),
    ]
)
DOCUMENTS_PER_PART = 1 << 20
"""Rows of a part of the clusters: so many are a table at a time."""
CLUSTER = Stage("clusters", version=2, gives=CLUSTERS, unit="documents")


def deduplicate(
    out: str,
    documents: str | Sequence[str],
    *,
    id_column: str = "doc_id",
    text_column: str = "text",
    options: DedupOptions | None = None,
    index: str | Sequence[str] | None = None,
) -> Manifest:
    """Cluster the documents of an artifact (or of Parquet files) and publish the clusters table at `out`.

    One row per document id, sorted by it: its cluster and how many documents that has, whether it is kept, and for a
    removed one the kept document it matches with the evidence. The phases stay in `<out>.phases` and may be removed.

    With `index` (of `index.write_index`, or several) the documents are also compared with those of earlier runs, whose text
    is not needed: the table then holds a row for every old document that the new ones could change too, and its rows are
    those of one run over everything.
    """
    options = options or DedupOptions()
    phases = phases_of(out)
    signed = signatures.write_signatures(
        posixpath.join(phases, SIGNATURES),
        documents,
        id_column=id_column,
        text_column=text_column,
        options=options,
    )
    inputs = {"signatures": signed}
    indexes = known.several(index)
    if indexes:
        inputs["known"] = known.write_known(posixpath.join(phases, KNOWN), indexes, phases, signed, options)
    with CLUSTER.build(out, params=options, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        clear_cut(phases)
        source = source_of(documents, text_column, phases, inputs, indexes)
        corpus = Corpus.load([*parts(posixpath.join(phases, SIGNATURES)), *source.known], options)
        near = near_layer(corpus, source, options) if options.near else Near.empty()
        tables, ledger, counts = clusters_tables(corpus, near, options)
        for number, table in enumerate(tables):
            work.write(f"{part_name(number)}.parquet", table)
        cut = dict(zip(("bands", "rows"), bands.shape(options), strict=True)) if options.near else {}
        return work.publish(ledger, rows=len(corpus.doc_id), schema=CLUSTERS, extra={**cut, **counts})


def source_of(
    documents: str | Sequence[str],
    text_column: str,
    phases: str,
    inputs: Mapping[str, Manifest],
    indexes: Sequence[str],
) -> Source:
    """Where text, phases and the sets of old documents are."""
    files, _ = signatures.source_files(documents)
    shards = parquet.shards_of(files)
    if not indexes:
        return Source(shards, text_column, phases, inputs)
    return Source(shards, text_column, phases, inputs, parts(posixpath.join(phases, KNOWN)), known.raw_sets(indexes))


def clusters_tables(
    corpus: Corpus, near: Near, options: DedupOptions
) -> tuple[Iterator[pa.Table], Ledger, dict[str, int]]:
    """The clusters sorted by doc_id, in tables of DOCUMENTS_PER_PART, their ledger, and what the manifest counts."""
    slots = len(corpus.doc_id)
    matched = np.where(corpus.keeper == np.arange(slots), -1, corpus.keeper)
    exact = matched >= 0
    similarity = np.where(exact, 1.0, np.nan)
    shared = np.full(slots, -1, np.int64)
    component = corpus.keeper.copy()
    near_removed = np.zeros(slots, bool)
    if len(near.matched):
        node_of = corpus.node_of()
        # A copy of a removed document is removed by what removed that one: matched_id always names a kept document.
        node = node_of[corpus.keeper]
        by = np.where(node >= 0, near.matched[node], -1)
        near_removed = by >= 0
        matched[near_removed] = corpus.node_slot[by[near_removed]]
        similarity[near_removed] = near.similarity[node[near_removed]]
        shared[near_removed] = near.shared_bands[node[near_removed]]
        component = np.where(node >= 0, corpus.node_slot[near.label[node]], component)
    order = np.asarray(pc.sort_indices(corpus.doc_id)).astype(np.int64)
    cluster_first = np.full(slots, slots, np.int64)
    np.minimum.at(cluster_first, component[order], np.arange(slots))
    size = np.bincount(component, minlength=slots)
    kept = matched < 0

    def part(at: I64) -> pa.Table:
        ids, first = corpus.doc_id, order[cluster_first[component[at]]]
        columns = [
            ids.take(pa.array(at)),
            ids.take(pa.array(first)),
            pa.array(size[component[at]]),
            pa.array(kept[at]),
            ids.take(pa.array(matched[at], mask=kept[at])),
            pa.array(similarity[at].astype(np.float32), mask=kept[at]),
            pa.array(shared[at].astype(np.int16), mask=shared[at] < 0),
            pa.array(np.where(near_removed[at], "near", "exact"), pa.string(), mask=kept[at]),
            pa.array(np.where(corpus.words[at] == 0, NO_WORDS, options.rule), pa.string()),
        ]
        return narrow(pa.table(columns, names=CLUSTERS.names), CLUSTERS)

    near_count, exact_count = int(near_removed.sum()), int((exact & ~near_removed).sum())
    ledger = Ledger.of(
        "documents",
        read=corpus.rows,
        kept=int(kept.sum()),
        dropped={
            "exact_duplicate": exact_count,
            "near_duplicate": near_count,
            "repeated_id": corpus.repeated,
        },
    )
    counts = {
        "clusters": len(np.unique(component)),
        "without_words": int(np.count_nonzero(corpus.words == 0)),
        "with_invalid_utf8": corpus.invalid,
        **near.counts,
    }
    starts = range(0, max(slots, 1), DOCUMENTS_PER_PART)
    return (part(order[start : start + DOCUMENTS_PER_PART]) for start in starts), ledger, counts
