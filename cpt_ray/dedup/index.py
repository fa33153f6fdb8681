"""The index: what a finished deduplication leaves for the next crawl, all of it Parquet but the raw shingle sets.

- `documents/`: the signatures with the unit of every document and the place of its shingle set;
- `bands/`: (band, key, doc_id), a file per band, sorted by key;
- `sets/`: sorted shingle hashes, uint64 little-endian.

No text is kept, and none is read again: a new crawl is compared with the old documents through their sets.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, parquet, parts, read_manifest
from cpt_ray.artifacts.columns import narrow
from cpt_ray.artifacts.places import locate, remove
from cpt_ray.dedup import cluster, known, near, signatures, verify
from cpt_ray.dedup.components import components
from cpt_ray.dedup.corpus import Corpus
from cpt_ray.dedup.options import DedupOptions


def write_index(
    path: str,
    clusters: str,
    documents: str | Sequence[str],
    *,
    text_column: str = "text",
    previous: str | None = None,
) -> Manifest:
    """Write the index of a finished deduplication, together with the `previous` index that it was made against.

    `clusters` is what `deduplicate` published for `documents` (its phases must still be there).
    """
    finished = read_manifest(clusters)
    options = DedupOptions.model_validate(finished.params)
    phases = cluster.phases_of(clusters)
    inputs = {"signatures": read_manifest(posixpath.join(phases, cluster.SIGNATURES))}
    if previous is not None:
        known.compatible(previous, options, inputs["signatures"])
        inputs["known"] = read_manifest(posixpath.join(phases, cluster.KNOWN))
    params = {**signatures.scheme(options), **known.cut(options)}
    made_from = {"clusters": finished, **({"previous": read_manifest(previous)} if previous else {})}
    staged = posixpath.join(phases, "all-sets")
    with known.INDEX.build(path, params=params, inputs=made_from) as work:
        if work.manifest is not None:
            # A kill after the index was published may have left what it was made from.
            _clear(staged)
            return work.manifest
        source = cluster.source_of(documents, text_column, phases, inputs, previous)
        new = parts(posixpath.join(phases, cluster.SIGNATURES))
        corpus = Corpus.load([*new, *source.known], options)
        nodes = np.arange(len(corpus.node_slot))
        store = near.write_sets_of(staged, corpus, nodes, source, options)
        old_sets = known.raw_sets(previous) if previous else []
        _copy_sets([*old_sets, *store.raw], _folder(work.path, known.SETS))
        unit = units(corpus, source, options)
        tables = _carried_over(previous, corpus, unit, source, len(new)) if previous else []
        tables += _new_rows(new, corpus, unit, store, len(old_sets))
        for n, table in enumerate(tables):
            parquet.write_table(posixpath.join(_folder(work.path, known.DOCUMENTS), f"part-{n:05d}.parquet"), table)
        _write_bands(_folder(work.path, known.BANDS), corpus, options, previous)
        rows = sum(table.num_rows for table in tables)
        manifest = work.publish(
            Ledger.of("documents", read=rows, kept=rows), rows=rows, schema=tables[0].schema, extra=known.cut(options)
        )
        # The index has its own copy of the sets.
        _clear(staged)
        return manifest


def _clear(staged: str) -> None:
    """Remove an artifact of shingle sets with its raw files."""
    near.remove_raw(staged)
    remove(*locate(staged))


def units(corpus: Corpus, source: near.Source, options: DedupOptions) -> pa.LargeStringArray:
    """[slots] large string: the smallest id among the documents tied to a slot by equal content or equal bands."""
    edges = [bucket.stars() for bucket in near.buckets(corpus, source, options)]
    empty = np.zeros(0, np.int64)
    centre = np.concatenate([c for c, _ in edges] or [empty])
    member = np.concatenate([m for _, m in edges] or [empty])
    label = components(len(corpus.node_slot), centre, member, posixpath.join(source.phases, "units"))
    node = corpus.node_of()[corpus.keeper]
    group = np.where(node >= 0, corpus.node_slot[label[node]] if len(label) else 0, np.arange(len(node)))
    order = np.asarray(pc.sort_indices(corpus.doc_id)).astype(np.int64)
    place = np.full(len(node), len(node), np.int64)
    np.minimum.at(place, group[order], np.arange(len(node)))
    return corpus.doc_id.take(pa.array(order[place[group]]))


def _new_rows(
    names: Sequence[str], corpus: Corpus, unit: pa.LargeStringArray, store: verify.SetStore, first_part: int
) -> list[pa.Table]:
    """The new signatures with their units and the places of their sets; equal contents share one set."""
    node_of = corpus.node_of()
    tables = []
    for name, slots in zip(names, corpus.slot_of, strict=False):
        table = parquet.read_table(name)
        kept = slots >= 0
        slot = slots[kept]
        node = node_of[corpus.keeper[slot]]
        stored = (node >= 0) & (store.part[node] >= 0)
        columns = {
            "unit": unit.take(pa.array(slot)).cast(pa.string()),
            "set_part": pa.array(np.where(stored, store.part[node] + first_part, -1)),
            "set_offset": pa.array(np.where(stored, store.offset[node], -1)),
            "set_length": pa.array(np.where(stored, store.length[node], 0)),
        }
        table = table.filter(pa.array(kept))
        for field in known.PLACE:
            table = table.append_column(field, columns[field.name])
        tables.append(table)
    return tables


def _carried_over(
    previous: str, corpus: Corpus, unit: pa.LargeStringArray, source: near.Source, new_parts: int
) -> list[pa.Table]:
    """The old rows: those that were touched with their present unit, without those whose id the new ones took over."""
    tables = []
    for name, touched_name, slots in zip(
        known.document_parts(previous), source.known, corpus.slot_of[new_parts:], strict=True
    ):
        table, touched = parquet.read_table(name), parquet.read_table(touched_name)
        rest = table.filter(pc.invert(pc.is_in(table["doc_id"], touched["doc_id"].combine_chunks())))
        kept = slots >= 0
        touched = touched.filter(pa.array(kept))
        at = touched.schema.get_field_index("unit")
        touched = touched.set_column(at, known.PLACE[0], unit.take(pa.array(slots[kept])).cast(pa.string()))
        tables.append(pa.concat_tables([rest, touched]))
    return tables


def _write_bands(folder: str, corpus: Corpus, options: DedupOptions, previous: str | None) -> None:
    keys = corpus.keys(options)
    ids = corpus.doc_id.take(pa.array(corpus.node_slot))
    for band in range(keys.shape[1]):
        name = f"band-{band:03d}.parquet"
        numbers = pa.array(np.full(len(ids), band, np.int16))
        table = narrow(pa.table([numbers, pa.array(keys[:, band]), ids], names=known.BAND.names), known.BAND)
        if previous is not None:
            before = parquet.read_table(posixpath.join(previous, known.BANDS, name))
            before = before.filter(pc.invert(pc.is_in(before["doc_id"].cast(pa.large_string()), corpus.doc_id)))
            table = pa.concat_tables([before, table])
        parquet.write_table(
            posixpath.join(folder, name), table.sort_by([("key", "ascending"), ("doc_id", "ascending")])
        )


def _copy_sets(names: Sequence[str], folder: str) -> None:
    """Copy raw files, numbering them in this order, as set_part does."""
    for n, name in enumerate(names):
        fs, source = locate(name)
        fs.copy(source, locate(posixpath.join(folder, f"part-{n:05d}.u64"))[1])


def _folder(root: str, name: str) -> str:
    path = posixpath.join(root, name)
    fs, target = locate(path)
    fs.makedirs(target, exist_ok=True)
    return path
