"""The training order, materialised: global batch k is a pure function of (seed, k) and of the content of the pairs.

    pairs -> order        which pair stands where, by `order`; a pair with an empty side is dropped by name
    order -> tokens       of what is drawn: truncated, without delimiters
    tokens -> batches     one table each
    batches -> Parquet    one row group per global batch, read at random or in sequence with a prefetching thread

This is done here for pairs that are one table in memory, and by exchanges (`batches_across`) for more, to equal bytes.
Nothing depends on the arrival order of the pairs or on the number of workers, so that a run can stop at step k and go on
at k + 1 on any cluster with the same batches.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts.columns import large, whole
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.parquet import opened
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import Work, part_name, parts, read_manifest
from cpt_ray.errors import UserError
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.order import Pulled, Stream, content_keys, keyed_order, place, plan, ranges, repeated
from cpt_ray.pairs.tokens import Encode

BATCHES = pa.schema(
    [
        ("batch", pa.int32()),
        ("slot", pa.int32()),
        ("pair_id", pa.string()),
        ("source", pa.string()),
        ("x_ids", pa.list_(pa.int32())),
        ("y_ids", pa.list_(pa.int32())),
        ("x_hash", pa.uint64()),
        ("y_hash", pa.uint64()),
        ("cluster", pa.uint64()),
    ]
)
HARD = (pa.field("hard_ids", pa.list_(pa.list_(pa.int32()))), pa.field("hard_hash", pa.list_(pa.uint64())))
"""Columns more when BatchOptions.hard_negatives is set."""
ORDER = Stage("batches", version=2, unit="pairs", reads=("pair_id", "x", "y", "cluster"))
BATCHES_PER_PART = 64
PART_SLOTS = 1 << 17
"""Pairs of a part, at most, if a batch is not more: 100 MB of tokens."""
NEEDED = ("pair_id", "source", "x", "y", "x_hash", "y_hash", "cluster")


def materialise(pairs: pa.Table, encode: Encode, options: BatchOptions) -> tuple[Iterator[pa.Table], Ledger]:
    """The global batches in order, each a table of BATCHES with `batch_size` rows, and the ledger of pairs and slots.

    `pairs` needs the columns pair_id, source, x, y, x_hash, y_hash, cluster, to rehydrate cluster_size, and with hard
    negatives hard (list<string>) and hard_hash (list<u64>); more are ignored. Raises UserError when no source has
    `batch_size` duplicate clusters, or a weight names a source that is not there.
    """
    needed = columns_of(options)
    missing = [name for name in needed if name not in pairs.column_names]
    if missing:
        raise UserError(f"the pairs have no column {missing[0]!r}", where="pairs", fix="give pairs of the right kind")
    pairs = pairs.select(needed)
    order = pc.sort_indices(pairs["pair_id"])
    pairs = pa.table({name: whole(pairs[name]).take(order) for name in needed})
    usable, reasons = _usable(pairs, options.hard_negatives)
    rows, used = _order(pairs, usable, reasons, options)
    for row in np.flatnonzero(~used):
        reasons[row] = reasons[row] or "not_reached"
    ledger = Ledger.count("pairs", reasons) + Ledger.of("slots", read=rows.size, kept=rows.size)
    # Only what is drawn is encoded: `drawn` of a row is its position among those.
    drawn = np.cumsum(used) - 1
    columns = pa.table(encoded(pairs.take(pa.array(np.flatnonzero(used))), encode, options))

    def tables() -> Iterator[pa.Table]:
        for batch, chosen in enumerate(rows):
            yield _numbered(columns.take(pa.array(drawn[chosen])), batch, options)

    return tables(), ledger


def _numbered(rows: pa.Table, batch: int, options: BatchOptions) -> pa.Table:
    """The rows of a batch, in order, with its number and their slots."""
    number = pa.array(np.full(len(rows), batch, np.int32))
    slots = pa.array(np.arange(len(rows), dtype=np.int32))
    schema = schema_of(options)
    return pa.table([number, slots, *rows.columns], names=schema.names).cast(schema)


def columns_of(options: BatchOptions) -> list[str]:
    """What the pairs must have."""
    sized = ["cluster_size"] if options.rehydrate > 1 else []
    return [*NEEDED, *sized, "hard", "hard_hash"] if options.hard_negatives else [*NEEDED, *sized]


def schema_of(options: BatchOptions) -> pa.Schema:
    """What the batches have."""
    return pa.schema([*BATCHES, *HARD]) if options.hard_negatives else BATCHES


def build_batches(
    path: str, pairs: pa.Table, encode: Encode, options: BatchOptions, inputs: Mapping[str, str | Manifest]
) -> Manifest:
    """Publish the batches of `pairs` at `path`; `inputs` must name the pairs and the tokenizer."""
    with ORDER.build(path, params=options, inputs=inputs) as work:
        return work.manifest or publish_batches(work, pairs, encode, options)


def publish_batches(work: Work, pairs: pa.Table, encode: Encode, options: BatchOptions) -> Manifest:
    """Write the batches of `pairs` and publish them."""
    tables, ledger = materialise(pairs, encode, options)
    count = write_batches(work, tables, batches_of_a_part(options.batch_size))
    rows, extra = count * options.batch_size, {"batches": count}
    return work.publish(ledger, rows=rows, schema=schema_of(options), extra=extra)


def batches_of_a_part(batch_size: int) -> int:
    """A part is written, and built, in memory."""
    return max(1, min(BATCHES_PER_PART, PART_SLOTS // batch_size))


def write_batches(work: Work, tables: Iterator[pa.Table], per_part: int = BATCHES_PER_PART) -> int:
    """Write one row group per table, all of equally many rows, into parts of `per_part` groups; returns how many tables."""
    count = 0
    for number in itertools.count():
        part = list(itertools.islice(tables, per_part))
        if not part:
            return count
        rows = max(part[0].num_rows, 1)
        work.write(f"{part_name(number)}.parquet", pa.concat_tables(part), row_group_size=rows)
        count += len(part)
    raise AssertionError("tables end")


class BatchReader:
    """Random access by step to a published order; `follow` reads it in sequence, ahead of its consumer."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._parts, self._batches = parts(path), int(read_manifest(path).extra.get("batches", 0))
        if not self._batches:
            raise UserError("no batches here", where=path, fix="give more pairs, or a smaller batch_size")
        # Every part but the last has as many as the first, so that no rank opens them all.
        with opened(self._parts[0]) as file:
            self._of_a_part = file.num_row_groups

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, step: int) -> pa.Table:
        name, group = self._place(range(self._batches)[step])
        with opened(name) as file:
            return file.read_row_group(group)

    def _place(self, step: int) -> tuple[str, int]:
        """The part and the row group of a step."""
        part, group = divmod(step, self._of_a_part)
        return self._parts[part], group

    def follow(self, start: int = 0, stop: int | None = None, ahead: int = 2) -> Iterator[tuple[int, pa.Table]]:
        """(step, table) from `start` on, at most `ahead` of them read in advance by a thread of its own."""
        end = len(self) if stop is None else min(stop, len(self))
        ready: queue.Queue[tuple[int, pa.Table] | Exception | None] = queue.Queue(maxsize=ahead)
        over = threading.Event()

        def put(item: tuple[int, pa.Table] | Exception | None) -> bool:
            while not over.is_set():
                try:
                    ready.put(item, timeout=0.2)
                except queue.Full:
                    continue
                return True
            return False

        def read() -> None:
            try:
                for name, steps in itertools.groupby(range(start, end), key=lambda step: self._place(step)[0]):
                    with opened(name) as file:
                        for step in steps:
                            if not put((step, file.read_row_group(self._place(step)[1]))):
                                return
                put(None)
            except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
                put(error)

        thread = threading.Thread(target=read, name="batch-prefetch", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            over.set()
            thread.join()


def _order(
    pairs: pa.Table, usable: np.ndarray, reasons: list[str | None], options: BatchOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each batch, (batches, batch_size), and which rows were used; names the reason of rows never placed."""
    source = np.asarray(pairs["source"].to_numpy(zero_copy_only=False), dtype=object)
    clusters = pairs["cluster"].to_numpy()
    keys = content_keys(pairs["pair_id"].to_pylist())
    times = copies(pairs, options)
    rows, keys_of = {}, {}
    for name in sorted(set(source[usable])):
        of_source = np.flatnonzero(usable & (source == name))
        at, keys_of[name] = repeated(keys[of_source], times[of_source])
        rows[name] = of_source[at]

    def differ(names: Collection[str]) -> bool:
        return len(np.unique(np.concatenate([clusters[rows[name]] for name in names]))) >= options.batch_size

    def pull(name: str, start: int) -> Iterator[Pulled]:
        epoch, at = divmod(start, len(rows[name]))
        while True:
            order = rows[name][keyed_order(keys_of[name], options.seed, epoch)][at:]
            yield from zip(order.tolist(), clusters[order].tolist(), strict=True)
            epoch, at = epoch + 1, 0

    planned = plan({name: len(found) for name, found in rows.items()}, differ, options)
    for name, reason in planned.left_out.items():
        for row in rows[name]:
            reasons[row] = reason
    placed, held = [], set()
    for part in ranges(planned, options):
        streams = {name: Stream(pull(name, at), planned.sizes[name]) for name, at in part.at.items()}
        placed.append(place(streams, part.quotas))
        held |= {row for stream in streams.values() for row in stream.held}
    out = np.concatenate(placed)
    used = np.zeros(pairs.num_rows, bool)
    used[out.ravel()] = True
    for never in held:
        if not used[never]:
            reasons[never] = "cluster_conflict"
    return out, used


def _usable(pairs: pa.Table, hard: int) -> tuple[np.ndarray, list[str | None]]:
    """Which rows, sorted by id, may be drawn, and why the others may not."""
    reasons = unusable(pairs, hard)
    seen: str | None = None
    for row, name in enumerate(pairs["pair_id"].to_pylist()):
        if reasons[row] is None:
            if name == seen:
                reasons[row] = "same_pair_id"
            seen = name
    return np.array([reason is None for reason in reasons], bool), reasons


def copies(pairs: pa.Table, options: BatchOptions) -> np.ndarray:
    """How often each row comes in an epoch: int64, at least 1."""
    if options.rehydrate == 1:
        return np.ones(len(pairs), np.int64)
    return np.clip(pc.fill_null(pairs["cluster_size"], 1).to_numpy().astype(np.int64), 1, options.rehydrate)


def unusable(pairs: pa.Table, hard: int) -> list[str | None]:
    """Why a row by itself may not be drawn; None if it may."""
    empty = ~(_written(pairs["x"]) & _written(pairs["y"]))
    few = np.zeros(len(empty), bool)
    if hard:
        few = np.array(
            [sum(bool(text.strip()) for text in (row or [])[:hard]) < hard for row in pairs["hard"].to_pylist()], bool
        )
    return ["empty_side" if e else "too_few_hard_negatives" if f else None for e, f in zip(empty, few, strict=True)]


def _written(texts: pa.ChunkedArray) -> np.ndarray:
    """True where there is more than white space."""
    return pc.not_equal(pc.utf8_trim_whitespace(texts), "").to_numpy(zero_copy_only=False).astype(bool)


def encoded(drawn: pa.Table, encode: Encode, options: BatchOptions) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns of a batch, all but `batch` and `slot`, for each row of `drawn`."""
    columns = {name: drawn[name] for name in ("pair_id", "source")}
    columns["x_ids"] = encode(whole(drawn["x"]), options.max_x_tokens)
    columns["y_ids"] = encode(whole(drawn["y"]), options.max_y_tokens)
    columns |= {name: drawn[name] for name in ("x_hash", "y_hash", "cluster")}
    if most := options.hard_negatives:
        texts = [text for row in drawn["hard"].to_pylist() for text in row[:most]]
        hashes = [row[:most] for row in drawn["hard_hash"].to_pylist()]
        ids = encode(pa.array(texts, pa.large_string()), options.max_y_tokens)
        offsets = pa.array(np.arange(drawn.num_rows + 1, dtype=np.int64) * most)
        columns["hard_ids"] = pa.LargeListArray.from_arrays(offsets, ids)
        columns["hard_hash"] = pa.array(hashes, large(HARD[1].type))
    return columns
