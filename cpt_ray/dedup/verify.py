"""Verification: exact similarity of candidate pairs from their shingle sets. No text is moved.

The sets of the documents that are in some candidate pair lie in raw files (uint64, little-endian), one per shard of the
source, and a table says where each set is. A comparison reads the two sets it needs and nothing else, so memory is
bounded by BLOCK whatever the number of pairs or documents.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cpt_ray.artifacts import Ledger, Manifest, Stage, fingerprint, parquet, parts, read_table
from cpt_ray.artifacts.places import locate, remove, writing
from cpt_ray.artifacts.store import BUILDING, part_name
from cpt_ray.dedup import kernels, sets, signatures
from cpt_ray.dedup.kernels import I64, U64
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError

BLOCK = 8 << 20
"""Hashes held in memory at a time by one comparison task: 64 MiB."""

PAIRS_PER_SHARD = 250_000

SETS = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
    ]
)
EDGES = pa.schema([pa.field("pair", pa.uint64()), pa.field("shared", pa.int64())])


def write_sets(
    path: str,
    raw: str,
    *,
    source_shards: Sequence[Mapping[str, Any]],
    wanted: Sequence[str],
    inputs: Mapping[str, str | Manifest],
    text_column: str,
    options: DedupOptions,
) -> Manifest:
    """Write the sets of the wanted rows: raw hashes under `raw`, their places as an artifact at `path`.

    wanted[i] is a Parquet file with the columns row (number in shard i) and count (shingles with repeats).
    """
    shards = [
        {**shard, "rows": rows, "raw": posixpath.join(raw, f"{part_name(i)}.u64")}
        for i, (shard, rows) in enumerate(zip(source_shards, wanted, strict=True))
    ]
    fs, folder = locate(raw)
    fs.makedirs(folder, exist_ok=True)
    _clear_places_without_sets(path, raw)
    return SHINGLE.map(
        path,
        params=signatures.scheme(options),
        inputs=inputs,
        shards=shards,
        text_column=text_column,
        options=options,
    )


def _clear_places_without_sets(path: str, raw: str) -> None:
    """Remove the artifact, whole or under way, if a raw file that it describes is gone: it will be made again."""
    fs, target = locate(path)
    _, folder = locate(raw)
    for places in (target, target + BUILDING):
        names = [posixpath.basename(name) for name in fs.find(places, maxdepth=1)]
        sets_of = [name.replace(".parquet", ".u64") for name in names if name.endswith(".parquet")]
        if not all(fs.exists(posixpath.join(folder, name)) for name in sets_of):
            remove(fs, places)


def _sets_shard(shard: Mapping[str, Any], *, text_column: str, options: DedupOptions) -> tuple[pa.Table, Ledger]:
    wanted = parquet.read_table(shard["rows"])
    rows, counts = np.asarray(wanted["row"]), np.asarray(wanted["count"])
    fs, target = locate(shard["raw"])
    lengths, base, seen = [np.zeros(0, np.int64)], 0, 0
    with writing(fs, target) as sink:
        for batch in parquet.read_batches(shard, [text_column]) if len(rows) else ():
            low, high = np.searchsorted(rows, [base, base + batch.num_rows])
            if high > low:
                text = batch.column(text_column).cast(pa.large_binary()).take(pa.array(rows[low:high] - base))
                values, found = sets.shingle_sets(
                    text, counts[low:high], ngram=options.ngram, mode=signatures.mode(options)
                )
                sink.write(values.astype("<u8", copy=False).tobytes())
                lengths.append(found)
                seen += int(high - low)
            base += batch.num_rows
    length = np.concatenate(lengths)
    offset = np.r_[0, np.cumsum(length)[:-1]] if len(length) else length
    table = pa.table([pa.array(rows), pa.array(offset.astype(np.int64)), pa.array(length)], schema=SETS)
    return table, Ledger.of("documents", read=len(rows), kept=seen)


SHINGLE = Stage("shingle-sets", version=1, gives=SETS, unit="documents", run=_sets_shard)


class SetStore:
    """Where the shingle set of every slot lies; -1 in `part` for a slot that has none stored."""

    def __init__(self, raw: Sequence[str], part: I64, offset: I64, length: I64) -> None:
        self.raw, self.part, self.offset, self.length = list(raw), part, offset, length

    @staticmethod
    def locate(table_path: str, raw: str, slot_of: Sequence[I64], slots: int) -> SetStore:
        """From the artifact of write_sets; slot_of[i][row] is the slot of a row of shard i."""
        part, offset, length = (np.full(slots, -1, np.int64) for _ in range(3))
        store = SetStore([], part, offset, length)
        for i, name in enumerate(parts(table_path)):
            table = parquet.read_table(name)
            at = slot_of[i][np.asarray(table["row"])]
            store.place(at, np.full(len(at), i), np.asarray(table["offset"]), np.asarray(table["length"]))
            store.raw.append(posixpath.join(raw, f"{part_name(i)}.u64"))
        return store

    def place(self, slots: I64, part: I64, offset: I64, length: I64) -> None:
        """Say where the sets of `slots` are: number of the raw file, offset and length in hashes."""
        self.part[slots], self.offset[slots], self.length[slots] = part, offset, length

    def read(self, slots: I64) -> tuple[U64, I64]:
        """(values, starts [slots]): the sets of `slots` (distinct), read in the order they lie in the files."""
        order = np.lexsort((self.offset[slots], self.part[slots]))
        wanted = slots[order]
        length = self.length[wanted]
        ends = np.cumsum(length)
        values = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
        starts = np.empty(len(slots), np.int64)
        starts[order] = ends - length
        part, offset = self.part[wanted], self.offset[wanted]
        # Sets that lie side by side are read at once.
        new = np.r_[True, (part[1:] != part[:-1]) | (offset[1:] != offset[:-1] + length[:-1])]
        heads = np.flatnonzero(new)
        tails = np.r_[heads[1:], len(wanted)] - 1
        source: Any = None
        opened = -1
        try:
            for head, tail in zip(heads.tolist(), tails.tolist(), strict=True):
                if part[head] != opened:
                    if source is not None:
                        source.close()
                    opened = int(part[head])
                    source = self._open(self.raw[opened])
                source.seek(int(offset[head]) * 8)
                low, high = int(ends[head] - length[head]), int(ends[tail])
                data = source.read((high - low) * 8)
                if len(data) != (high - low) * 8:
                    raise UserError(
                        "a file of shingle sets is shorter than its table says",
                        where=self.raw[opened],
                        fix="remove the folder of phases beside the clusters and run again",
                    )
                values[low:high] = np.frombuffer(data, "<u8")
        finally:
            if source is not None:
                source.close()
        return values, starts

    @staticmethod
    def _open(name: str) -> Any:
        fs, target = locate(name)
        if not fs.exists(target):
            raise UserError(
                "the shingle sets of an earlier run are gone",
                where=name,
                fix="run again; if they are an index's, write the index again",
            )
        return open(target, "rb", buffering=0) if "file" in fs.protocol else fs.open(target, "rb")

    def shared(self, centre: I64, member: I64) -> I64:
        """[pairs] int64: how many shingles the two sets of each pair have in common."""
        out = np.zeros(len(centre), np.int64)
        for low, high in self._blocks(centre, member):
            slots, places = np.unique(np.r_[centre[low:high], member[low:high]], return_inverse=True)
            values, starts = self.read(slots)
            half = high - low
            kernels.intersections(values, starts, self.length[slots], places[:half], places[half:], out[low:high])
        return out

    def _blocks(self, centre: I64, member: I64) -> Iterator[tuple[int, int]]:
        """Ranges of pairs (sorted by centre) whose sets fit in BLOCK together."""
        if not len(centre):
            return
        new = np.r_[True, centre[1:] != centre[:-1]]
        cost = np.cumsum(self.length[member] + np.where(new, self.length[centre], 0))
        low = 0
        while low < len(centre):
            spent = cost[low - 1] if low else 0
            # A block in the middle of a star holds its centre too.
            high = int(np.searchsorted(cost, spent + BLOCK - self.length[centre[low]], side="right"))
            high = min(max(high, low + 1), len(centre))
            yield low, high
            low = high


def similarity(shared: I64, centre_size: I64, member_size: I64, measure: str) -> np.ndarray:
    """[pairs] float64: Jaccard, or the share of the member's shingles that the centre has."""
    whole = member_size if measure == "containment" else centre_size + member_size - shared
    return shared / np.maximum(whole, 1)


def write_edges(path: str, pairs: U64, nodes: int, store: SetStore, inputs: Mapping[str, str | Manifest]) -> Manifest:
    """Compare many pairs, shard by shard, as an artifact of (pair, shared shingles)."""
    starts = range(0, len(pairs), PAIRS_PER_SHARD)
    # Each task is handed its own pairs and the places of their sets, nothing else.
    return COMPARE.map(
        path,
        params={"pairs": fingerprint({"n": len(pairs), "digest": _digest(pairs)})},
        inputs=inputs,
        shards=[{"start": start, "stop": min(start + PAIRS_PER_SHARD, len(pairs))} for start in starts],
        pairs=pairs,
        nodes=nodes,
        store=store,
    )


def _edges_shard(shard: Mapping[str, Any], *, pairs: U64, nodes: int, store: SetStore) -> tuple[pa.Table, Ledger]:
    chosen = pairs[shard["start"] : shard["stop"]]
    n = np.uint64(max(nodes, 1))
    shared = store.shared((chosen // n).astype(np.int64), (chosen % n).astype(np.int64))
    table = pa.table([pa.array(chosen), pa.array(shared)], schema=EDGES)
    return table, Ledger.of("pairs", read=len(chosen), kept=len(chosen))


COMPARE = Stage("edges", version=1, gives=EDGES, unit="pairs", run=_edges_shard)


def read_edges(path: str) -> I64:
    """[pairs] int64: the shared shingles, in the order of the pairs."""
    return np.asarray(read_table(path, ["shared"])["shared"])


def _digest(pairs: U64) -> str:
    import xxhash

    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(pairs).data)
