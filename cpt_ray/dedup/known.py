"""Old documents that a new crawl can touch: read from an index, by (band, key, doc_id), without any text.

An index knows the *unit* of every document: a component of the graph in which documents are joined that share a band
or are equal after normalisation. Whatever deduplication decides, it decides inside units. So the new documents can
only change the units that they share a key, a content or an id with; those are read in full, the rest stays as it is.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
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
        raise UserError("this is no index of deduplicated documents", where=index, fix="make one with write_index")
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


def raw_sets(index: str) -> list[str]:
    """Raw files of the index's shingle sets, in the order that set_part counts them."""
    fs, folder = locate(posixpath.join(index, SETS))
    names = sorted(name for name in fs.find(folder) if name.endswith(".u64")) if fs.exists(folder) else []
    return [posixpath.join(index, SETS, posixpath.basename(name)) for name in names]


def write_known(path: str, index: str, phases: str, signed: Manifest, options: DedupOptions) -> Manifest:
    """Write the rows of all units that the signatures under `phases` touch, as an artifact at `path`."""
    manifest = compatible(index, options, signed)
    inputs = {"signatures": signed, "index": manifest}
    with TOUCHED.build(path, params=cut(options), inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        new = _New.read(parts(posixpath.join(phases, "signatures")), options)
        touched = _touched_units(index, new)
        rows, schema, read = 0, None, 0
        for i, name in enumerate(document_parts(index)):
            table = parquet.read_table(name)
            chosen = table.filter(pc.is_in(table["unit"], touched))
            schema, rows, read = chosen.schema, rows + chosen.num_rows, read + table.num_rows
            work.write(f"{part_name(i)}.parquet", chosen)
        ledger = Ledger.of("old documents", read=read, kept=rows, dropped={"not_touched": read - rows})
        return work.publish(ledger, rows=rows, schema=schema)


class _New:
    """What old documents are found by: ids, contents, and the keys of every band."""

    def __init__(self, ids: pa.Array, contents: U64, keys: U64) -> None:
        self.ids, self.contents, self.keys = ids, contents, keys

    @staticmethod
    def read(names: list[str], options: DedupOptions) -> _New:
        count, rows = bands.shape(options)
        ids, contents, keys = [], [np.zeros(0, np.uint64)], [np.zeros((0, count), np.uint64)]
        for name in names:
            table = parquet.read_table(name, ["doc_id", "content_0", "words", "signature"])
            ids.append(table["doc_id"])
            chosen = np.asarray(table["words"]) > 0
            contents.append(np.asarray(table["content_0"])[chosen])
            matrix = signatures.signature_matrix(table["signature"])
            keys.append(np.unique(bands.band_keys(matrix[chosen], count, rows), axis=0))
        all_ids = whole(pa.chunked_array([c for column in ids for c in column.chunks], pa.string()))
        return _New(all_ids, np.concatenate(contents), np.concatenate(keys))


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
    return pa.chunked_array(found, pa.string()).unique()


def _ids_by_key(index: str, keys: U64) -> Iterator[pa.Array]:
    """Ids in the buckets of `keys` [rows, bands]; row groups whose range of keys holds none of them are not read."""
    for band in range(keys.shape[1]):
        wanted = np.unique(keys[:, band])
        with parquet.opened(posixpath.join(index, BANDS, f"band-{band:03d}.parquet")) as file:
            for group in range(file.num_row_groups):
                limits = file.metadata.row_group(group).column(1).statistics
                low, high = np.searchsorted(wanted, np.array([limits.min, limits.max], np.uint64), side="left")
                if low == high and (low == len(wanted) or wanted[low] != np.uint64(limits.max)):
                    continue
                table = file.read_row_group(group, columns=["key", "doc_id"])
                hit = np.isin(np.asarray(table["key"]), wanted)
                yield table["doc_id"].combine_chunks().filter(pa.array(hit))
