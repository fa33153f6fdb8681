"""Old documents that a new crawl can touch: read from an index, by (band, key, doc_id), without any text.

An index knows the *unit* of every document: a component of the graph in which documents are joined that share a band
or are equal after normalisation. Whatever deduplication decides, it decides inside units. So the new documents can
only change the units that they share a key, a content or an id with; those are read in full, the rest stays as it is.

Of several indexes that know nothing of each other, a unit of one may have such a thing in common with a unit of another:
what a unit that is touched touches is touched too. What two indexes have in common with each other alone is decided by none.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts, read_manifest
from cpt_ray.artifacts.columns import whole
from cpt_ray.artifacts.places import locate
from cpt_ray.artifacts.store import part_name
from cpt_ray.dedup import bands, signatures, survivors
from cpt_ray.dedup.kernels import U64
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError

INDEX = Stage("dedup-index", version=1, unit="documents")
TOUCHED = Stage("known", version=1, unit="old documents")
DOCUMENTS, BANDS, SETS = "documents", "bands", "sets"
SAMPLED = -1
"""The number that sampled shingles have in place of a band."""

BAND = pa.schema([pa.field("band", pa.int16()), pa.field("key", pa.uint64()), pa.field("doc_id", pa.string())])
PLACE = (
    pa.field("unit", pa.string()),
    pa.field("set_part", pa.int64()),
    pa.field("set_offset", pa.int64()),
    pa.field("set_length", pa.int64()),
)


def compatible(index: str, options: DedupOptions, signed: Manifest | None = None) -> Manifest:
    """The manifest of the index; UserError naming both values where it was made with other parameters."""
    manifest = read_manifest(index)
    if manifest.step != INDEX.name:
        raise UserError(
            "this is no index of deduplicated documents",
            where=index,
            fix="give the `index` of an earlier `cpt-ray dedup`",
        )
    signatures.check_same({**signatures.scheme(options), **cut(options)}, manifest.params, index)
    if signed is not None:
        ours = {name: kind for name, kind in signed.columns.items() if name.startswith(survivors.PREFIX)}
        theirs = {name: kind for name, kind in manifest.columns.items() if name.startswith(survivors.PREFIX)}
        signatures.check_same({"the rule's columns": ours}, {"the rule's columns": theirs}, index)
    return manifest


def cut(options: DedupOptions) -> dict[str, Any]:
    """Bands and rows, which decide the keys that two sets of signatures are joined by."""
    return dict(zip(("bands", "rows"), bands.shape(options), strict=True))


def document_parts(index: str) -> list[str]:
    return [name for name in parts(index) if f"/{DOCUMENTS}/" in name]


def several(indexes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Paths of indexes, of which there may be one or none."""
    return () if indexes is None else (indexes,) if isinstance(indexes, str) else tuple(dict.fromkeys(indexes))


def raw_sets(indexes: Sequence[str]) -> list[str]:
    """Raw files of the indexes' shingle sets, one index after the other, in the order that set_part counts them."""
    found = []
    for index in indexes:
        fs, folder = locate(posixpath.join(index, SETS))
        names = sorted(name for name in fs.find(folder) if name.endswith(".u64")) if fs.exists(folder) else []
        found += [posixpath.join(index, SETS, posixpath.basename(name)) for name in names]
    return found


def read_documents(indexes: Sequence[str]) -> Iterator[pa.Table]:
    """The documents of all indexes, a file at a time, with set_part counted as `raw_sets` does; of an id that several
    indexes have the first row alone."""
    before = 0
    seen = pa.array([], pa.string())
    for index in indexes:
        found = [seen]
        for name in document_parts(index):
            table = parquet.read_table(name)
            if len(seen):
                table = table.filter(pc.invert(pc.is_in(table["doc_id"], seen)))
            if before:
                at = table.schema.get_field_index("set_part")
                part = pc.if_else(pc.less(table["set_part"], 0), table["set_part"], pc.add(table["set_part"], before))
                table = table.set_column(at, PLACE[1], part)
            if index != indexes[-1]:
                found.append(table["doc_id"].combine_chunks())
            yield table
        before += len(raw_sets([index]))
        seen = pa.concat_arrays(found)


def write_known(path: str, indexes: Sequence[str], phases: str, signed: Manifest, options: DedupOptions) -> Manifest:
    """Write the rows of all units that the signatures under `phases` touch, as an artifact at `path`: a part for each file
    of documents of the indexes."""
    inputs = {"signatures": signed}
    for number, index in enumerate(indexes):
        inputs[f"index {number}" if number else "index"] = compatible(index, options, signed)
    with TOUCHED.build(path, params=cut(options), inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        touched = _touched(
            indexes, _New.of(map(_signatures, parts(posixpath.join(phases, "signatures"))), options), options
        )
        of_index = [units for index, units in zip(indexes, touched, strict=True) for _ in document_parts(index)]
        rows, schema, read = 0, None, 0
        for i, (table, units) in enumerate(zip(read_documents(indexes), of_index, strict=True)):
            chosen = table.filter(pc.is_in(table["unit"], units))
            schema, rows, read = chosen.schema, rows + chosen.num_rows, read + table.num_rows
            work.write(f"{part_name(i)}.parquet", chosen)
        ledger = Ledger.of("old documents", read=read, kept=rows, dropped={"not_touched": read - rows})
        return work.publish(ledger, rows=rows, schema=schema)


def _touched(indexes: Sequence[str], new: _New, options: DedupOptions) -> list[pa.Array]:
    """The units of each index that the new documents touch, and what these touch in the other indexes, and so on."""
    touched = [pa.array([], pa.string()) for _ in indexes]
    while True:
        fresh = []
        for at, index in enumerate(indexes):
            found = _touched_units(index, new)
            found = found.filter(pc.invert(pc.is_in(found, touched[at])))
            touched[at] = pa.concat_arrays([touched[at], found])
            fresh.append(found)
        # One index alone is closed: its units share nothing with each other.
        if len(indexes) == 1 or not any(map(len, fresh)):
            return touched
        rows = (
            table.filter(pc.is_in(table["unit"], units))
            for index, units in zip(indexes, fresh, strict=True)
            for table in map(_signatures, document_parts(index))
        )
        new = _New.of(rows, options)


class _New:
    """What old documents are found by: ids, contents, and by band (or SAMPLED) the keys."""

    def __init__(self, ids: pa.Array, contents: U64, keys: Mapping[int, U64]) -> None:
        self.ids, self.contents, self.keys = ids, contents, keys

    @staticmethod
    def of(tables: Iterable[pa.Table], options: DedupOptions) -> _New:
        """Of tables of signatures."""
        count, rows = bands.shape(options)
        ids, contents, keys = [], [np.zeros(0, np.uint64)], [np.zeros((0, count), np.uint64)]
        shingles = [np.zeros(0, np.uint64)]
        contained = options.measure == "containment"
        for table in tables:
            ids.append(table["doc_id"])
            chosen = np.asarray(table["words"]) > 0
            contents.append(np.asarray(table["content_0"])[chosen])
            matrix = signatures.signature_matrix(table["signature"])
            keys.append(np.unique(bands.band_keys(matrix[chosen], count, rows), axis=0))
            if contained:
                shingles.append(np.unique(signatures.sampled(table)[0]))
        of_bands = np.concatenate(keys)
        by_band = {band: of_bands[:, band] for band in range(count)}
        if contained:
            by_band[SAMPLED] = np.concatenate(shingles)
        all_ids = whole(pa.chunked_array([c for column in ids for c in column.chunks], pa.string()))
        return _New(all_ids, np.concatenate(contents), by_band)


def _signatures(name: str) -> pa.Table:
    """What `_New` and the choice of units read of a file of signatures, or of an index's documents."""
    with parquet.opened(name) as file:
        wanted = ("doc_id", "unit", "content_0", "words", "signature", signatures.SAMPLE)
        return file.read(columns=[column for column in file.schema_arrow.names if column in wanted])


def _touched_units(index: str, new: _New) -> pa.Array:
    """Distinct units with a document of the same id, the same content, or a key in common."""
    by_key = pa.chunked_array(list(_ids_by_key(index, new.keys)), pa.string()).cast(pa.large_string()).unique()
    found = []
    contents = pa.array(np.unique(new.contents))
    for name in document_parts(index):
        table = parquet.read_table(name, ["doc_id", "unit", "content_0", "words"])
        same = pc.and_(pc.is_in(table["content_0"], contents), pc.greater(table["words"], 0))
        own = table["doc_id"].cast(pa.large_string())
        ids = pc.or_(pc.is_in(own, new.ids), pc.is_in(own, by_key))
        found.append(table.filter(pc.or_(same, ids))["unit"].unique())
    return whole(pa.chunked_array(found, pa.string())).unique().cast(pa.string())


def band_file(band: int) -> str:
    """Where the keys of a band (or SAMPLED) are, in an index."""
    return posixpath.join(BANDS, "sampled.parquet" if band == SAMPLED else f"band-{band:03d}.parquet")


def _ids_by_key(index: str, keys: Mapping[int, U64]) -> Iterator[pa.Array]:
    """Ids in the buckets of the keys by band; row groups whose range of keys holds none of them are not read."""
    for band, of_band in keys.items():
        wanted = np.unique(of_band)
        with parquet.opened(posixpath.join(index, band_file(band))) as file:
            for group in range(file.num_row_groups):
                if not file.metadata.row_group(group).num_rows:  # an index of no words
                    continue
                limits = file.metadata.row_group(group).column(1).statistics
                low, high = np.searchsorted(wanted, np.array([limits.min, limits.max], np.uint64), side="left")
                if low == high and (low == len(wanted) or wanted[low] != np.uint64(limits.max)):
                    continue
                table = file.read_row_group(group, columns=["key", "doc_id"])
                hit = np.isin(np.asarray(table["key"]), wanted)
                yield table["doc_id"].combine_chunks().filter(pa.array(hit))
