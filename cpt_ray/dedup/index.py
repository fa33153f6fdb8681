"""The index: what a finished deduplication leaves for the next crawl, all of it Parquet but the raw shingle sets.

- `documents/`: the signatures with the unit of every document and the place of its shingle set;
- `bands/`: (band, key, doc_id), a file per band, sorted by key; of containment, one more of the sampled shingles;
- `sets/`: sorted shingle hashes, uint64 little-endian.

No text is kept, and none is read again: a new crawl is compared with the old documents through their sets.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, parquet, parts, read_manifest
from cpt_ray.artifacts.columns import narrow, whole
from cpt_ray.artifacts.places import locate, remove
from cpt_ray.artifacts.store import part_name, phases_of
from cpt_ray.dedup import cluster, known, near, signatures, verify
from cpt_ray.dedup.components import components
from cpt_ray.dedup.corpus import Corpus
from cpt_ray.dedup.kernels import I64, U64
from cpt_ray.dedup.options import DedupOptions


def write_index(
    path: str,
    clusters: str,
    documents: str | Sequence[str],
    *,
    text_column: str = "text",
    previous: str | Sequence[str] | None = None,
) -> Manifest:
    """Write the index of a finished deduplication, together with the `previous` one, or several, that it was made against.

    `clusters` is what `deduplicate` published for `documents` (its phases must still be there).
    """
    finished = read_manifest(clusters)
    options = DedupOptions.model_validate(finished.params)
    phases = phases_of(clusters)
    inputs = {"signatures": read_manifest(posixpath.join(phases, cluster.SIGNATURES))}
    before = known.several(previous)
    for index in before:
        known.compatible(index, options, inputs["signatures"])
    if before:
        inputs["known"] = read_manifest(posixpath.join(phases, cluster.KNOWN))
    params = {**signatures.scheme(options), **known.cut(options)}
    names = ("previous", *(f"previous {number}" for number in range(1, len(before))))
    made_from = {"clusters": finished, **dict(zip(names, map(read_manifest, before), strict=False))}
    staged = posixpath.join(phases, "all-sets")
    with known.INDEX.build(path, params=params, inputs=made_from) as work:
        if work.manifest is not None:
            # A kill after the index was published may have left what it was made from.
            _clear(staged)
            return work.manifest
        source = cluster.source_of(documents, text_column, phases, inputs, before)
        new = parts(posixpath.join(phases, cluster.SIGNATURES))
        corpus = Corpus.load([*new, *source.known], options)
        nodes = np.arange(len(corpus.node_slot))
        store = near.write_sets_of(staged, corpus, nodes, source, options)
        old_sets = known.raw_sets(before)
        _copy_sets([*old_sets, *store.raw], _folder(work.path, known.SETS))
        unit = units(corpus, source, options)
        tables = list(_carried_over(before, corpus, unit, source, len(new)))
        tables += _new_rows(new, corpus, unit, store, len(old_sets))
        _folder(work.path, known.BANDS)
        bands = _write_bands(work.path, corpus, options, before)
        if len(before) > 1:
            tables = _joined_units(tables, bands, posixpath.join(phases, "indexes"))
        for n, table in enumerate(tables):
            parquet.write_table(posixpath.join(_folder(work.path, known.DOCUMENTS), f"{part_name(n)}.parquet"), table)
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
    found = near.buckets(corpus, source, options) + near.sampled_buckets(corpus, options)
    edges = [bucket.stars() for bucket in found]
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
        # The last place is that of a document without words, which is no node: -1.
        part, offset, length = (np.r_[places, -1][node] for places in (store.part, store.offset, store.length))
        stored = part >= 0
        columns = {
            "unit": unit.take(pa.array(slot)).cast(pa.string()),
            "set_part": pa.array(np.where(stored, part + first_part, -1)),
            "set_offset": pa.array(offset),
            "set_length": pa.array(np.where(stored, length, 0)),
        }
        table = table.filter(pa.array(kept))
        for field in known.PLACE:
            table = table.append_column(field, columns[field.name])
        tables.append(table)
    return tables


def _carried_over(
    before: Sequence[str], corpus: Corpus, unit: pa.LargeStringArray, source: near.Source, new_parts: int
) -> Iterator[pa.Table]:
    """The old rows: those that were touched with their present unit, without those whose id the new ones took over."""
    for table, touched_name, slots in zip(
        known.read_documents(before), source.known, corpus.slot_of[new_parts:], strict=True
    ):
        touched = parquet.read_table(touched_name)
        rest = table.filter(pc.invert(pc.is_in(table["doc_id"], touched["doc_id"].combine_chunks())))
        kept = slots >= 0
        touched = touched.filter(pa.array(kept))
        at = touched.schema.get_field_index("unit")
        touched = touched.set_column(at, known.PLACE[0], unit.take(pa.array(slots[kept])).cast(pa.string()))
        yield pa.concat_tables([rest, touched])


def _joined_units(tables: Sequence[pa.Table], bands: Sequence[str], phases: str) -> list[pa.Table]:
    """The rows with the units of several indexes taken together that share a key or a content."""
    columns = {name: whole(pa.chunked_array([c for t in tables for c in t[name].chunks])) for name in _TOLD}
    ids, contents = columns["doc_id"], np.asarray(columns["content_0"])
    coded = columns["unit"].dictionary_encode()
    unit = np.asarray(coded.indices).astype(np.int64)
    written = np.flatnonzero(np.asarray(columns["words"]) > 0)
    found = [_neighbours(contents[written], unit[written])]
    for name in bands:
        table = parquet.read_table(name, ["key", "doc_id"])
        of = np.asarray(pc.index_in(whole(table["doc_id"]).cast(ids.type), value_set=ids)).astype(np.int64)
        found.append(_neighbours(np.asarray(table["key"]), unit[of]))
    a, b = (np.concatenate(side) for side in zip(*found, strict=True))
    label = components(len(coded.dictionary), a, b, phases)
    names = coded.dictionary.to_pylist()
    least: dict[int, str] = {}
    for group, name in zip(label.tolist(), names, strict=True):
        least[group] = min(name, least.get(group, name))
    joined = pa.array([least[group] for group in label.tolist()], pa.string()).take(pa.array(unit))
    out, start = [], 0
    for table in tables:
        at = table.schema.get_field_index("unit")
        out.append(table.set_column(at, known.PLACE[0], joined.slice(start, len(table))))
        start += len(table)
    return out


_TOLD = ("doc_id", "unit", "content_0", "words")


def _neighbours(keys: U64, unit: I64) -> tuple[I64, I64]:
    """Pairs of different units that have a key in common: enough of them to tie all that have it, smaller first."""
    order = np.lexsort((unit, keys))
    same = keys[order[1:]] == keys[order[:-1]]
    pairs = np.unique(np.c_[unit[order[:-1]][same], unit[order[1:]][same]], axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return pairs[:, 0], pairs[:, 1]


def _write_bands(path: str, corpus: Corpus, options: DedupOptions, before: Sequence[str]) -> list[str]:
    """Write the keys of all documents, a file a band; returns the files."""
    files = []
    keys = corpus.keys(options)
    ids = corpus.doc_id.take(pa.array(corpus.node_slot))
    of_band = {band: (keys[:, band], ids) for band in range(keys.shape[1])}
    if options.measure == "containment":
        shingles, nodes = corpus.samples()
        of_band[known.SAMPLED] = shingles, ids.take(pa.array(nodes))
    for band, (own, of) in of_band.items():
        numbers = pa.array(np.full(len(own), band, np.int16))
        table = narrow(pa.table([numbers, pa.array(own), of], names=known.BAND.names), known.BAND)
        seen = corpus.doc_id
        for index in before:
            old = parquet.read_table(posixpath.join(index, known.band_file(band)))
            old = old.filter(pc.invert(pc.is_in(old["doc_id"].cast(pa.large_string()), seen)))
            if index != before[-1]:
                seen = pa.concat_arrays([seen, whole(old["doc_id"]).cast(pa.large_string())])
            table = pa.concat_tables([old, table])
        files.append(posixpath.join(path, known.band_file(band)))
        parquet.write_table(files[-1], table.sort_by([("key", "ascending"), ("doc_id", "ascending")]))
    return files


def _copy_sets(names: Sequence[str], folder: str) -> None:
    """Copy raw files, numbering them in this order, as set_part does."""
    for n, name in enumerate(names):
        fs, source = locate(name)
        fs.copy(source, locate(posixpath.join(folder, f"{part_name(n)}.u64"))[1])


def _folder(root: str, name: str) -> str:
    path = posixpath.join(root, name)
    fs, target = locate(path)
    fs.makedirs(target, exist_ok=True)
    return path
