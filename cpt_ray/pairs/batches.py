"""The training order, materialised: global batch k is a pure function of (seed, k) and of the content of the pairs.

    pairs -> tokens       truncated, without delimiters; a pair with an empty side is dropped by name
    tokens -> order       each source is an endless stream: epoch after epoch, sorted by a keyed hash of the pair id
    order -> batches      sources take turns by weight; a pair whose duplicate cluster is already in the batch waits
                          for a later one
    batches -> Parquet    one row group per global batch, read at random or in sequence with a prefetching thread

Nothing depends on the arrival order of the pairs or on the number of workers, so that a run can stop at step k and go on
at k + 1 on any cluster with the same batches.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from cpt_ray.artifacts.columns import large, whole
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import parts
from cpt_ray.errors import UserError
from cpt_ray.pairs.options import BatchOptions

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, without special tokens and without truncation."""

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
ORDER = Stage("batches", version=1, unit="pairs", reads=("pair_id", "x", "y", "cluster"))
TOKENS = pa.large_list(pa.int32())
BATCHES_PER_PART = 64
CHARACTERS_PER_TOKEN = 6
"""More than a token holds on average; only how much is encoded in vain depends on it."""
NEEDED = ("pair_id", "source", "x", "y", "x_hash", "y_hash", "cluster")


def materialise(pairs: pa.Table, encode: Encode, options: BatchOptions) -> tuple[Iterator[pa.Table], Ledger]:
    """The global batches in order, each a table of BATCHES with `batch_size` rows, and the ledger of pairs and slots.

    `pairs` needs the columns pair_id, source, x, y, x_hash, y_hash, cluster, and with hard negatives hard (list<string>)
    and hard_hash (list<u64>); more are ignored. Raises UserError when no source has `batch_size` duplicate clusters, or
    a weight names a source that is not there.
    """
    most = options.hard_negatives
    needed = [*NEEDED, "hard", "hard_hash"] if most else list(NEEDED)
    missing = [name for name in needed if name not in pairs.column_names]
    if missing:
        raise UserError(f"the pairs have no column {missing[0]!r}", where="pairs", fix="give pairs of the right kind")
    pairs = pairs.select(needed)
    order = pc.sort_indices(pairs["pair_id"])
    pairs = pa.table({name: whole(pairs[name]).take(order) for name in needed})
    usable, reasons = _usable(pairs, most)
    rows, used = _order(pairs, usable, reasons, options)
    for row in np.flatnonzero(~used):
        reasons[row] = reasons[row] or "not_reached"
    ledger = Ledger.count("pairs", reasons) + Ledger.of("slots", read=rows.size, kept=rows.size)
    # Only what is drawn is encoded: `place` of a row is its position among those.
    place = np.cumsum(used) - 1
    drawn = pairs.take(pa.array(np.flatnonzero(used)))
    x_ids = _tokens(drawn["x"], encode, options.max_x_tokens)
    y_ids = _tokens(drawn["y"], encode, options.max_y_tokens)
    schema = BATCHES
    if most:
        hard_ids, hard_hash = _hard(drawn, encode, options)
        schema = pa.schema([*BATCHES, *HARD])

    def tables() -> Iterator[pa.Table]:
        for batch, chosen in enumerate(rows):
            take = pa.array(place[chosen])
            part = drawn.take(take)
            columns = {
                "batch": pa.array(np.full(len(chosen), batch, np.int32)),
                "slot": pa.array(np.arange(len(chosen), dtype=np.int32)),
                "pair_id": part["pair_id"],
                "source": part["source"],
                "x_ids": x_ids.take(take),
                "y_ids": y_ids.take(take),
                "x_hash": part["x_hash"],
                "y_hash": part["y_hash"],
                "cluster": part["cluster"],
            }
            if most:
                columns |= {"hard_ids": hard_ids.take(take), "hard_hash": hard_hash.take(take)}
            yield pa.table(columns).cast(schema)

    return tables(), ledger


def build_batches(
    path: str, pairs: pa.Table, encode: Encode, options: BatchOptions, inputs: dict[str, str | Manifest]
) -> Manifest:
    """Publish the batches of `pairs` at `path`; `inputs` must name the pairs and the tokenizer."""
    with ORDER.build(path, params=options, inputs=inputs) as work:
        if not work.done:
            tables, ledger = materialise(pairs, encode, options)
            count = write_batches(work.path, tables)
            schema = pa.schema([*BATCHES, *HARD]) if options.hard_negatives else BATCHES
            work.publish(ledger, rows=count * options.batch_size, schema=schema, extra={"batches": count})
        assert work.manifest is not None
        return work.manifest


def write_batches(path: str, tables: Iterator[pa.Table]) -> int:
    """Write one row group per table into part files of BATCHES_PER_PART groups each; returns the number of tables."""
    fs, folder = fsspec.core.url_to_fs(path)
    fs.makedirs(folder, exist_ok=True)
    writer, sink, count = None, None, 0
    for table in tables:
        if count % BATCHES_PER_PART == 0:
            if writer is not None and sink is not None:
                writer.close()
                sink.close()
            sink = fs.open(f"{folder}/part-{count // BATCHES_PER_PART:05d}.parquet", "wb")
            writer = pq.ParquetWriter(sink, table.schema, compression="zstd", compression_level=3)
        assert writer is not None
        writer.write_table(table.combine_chunks(), row_group_size=max(table.num_rows, 1))
        count += 1
    if writer is not None and sink is not None:
        writer.close()
        sink.close()
    return count


class BatchReader:
    """Random access by step to a published order; `follow` reads it in sequence, ahead of its consumer."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._groups: list[tuple[str, int]] = []
        for name in parts(path):
            with _open(name) as file:
                self._groups += [(name, group) for group in range(file.num_row_groups)]
        if not self._groups:
            raise UserError("no batches here", where=path, fix="give more pairs, or a smaller batch_size")

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, step: int) -> pa.Table:
        name, group = self._groups[step]
        with _open(name) as file:
            return file.read_row_group(group)

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
                for name, steps in itertools.groupby(range(start, end), key=lambda step: self._groups[step][0]):
                    with _open(name) as file:
                        for step in steps:
                            if not put((step, file.read_row_group(self._groups[step][1]))):
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


def keyed_order(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Positions of `keys` (u64, one per row) sorted by a hash of (seed, epoch, key); ties by position."""
    salt = np.uint64(xxhash.xxh3_64_intdigest(f"{seed}/{epoch}".encode()))
    return np.argsort(_mix(keys ^ salt), kind="stable")


def content_keys(ids: list[str]) -> np.ndarray:
    """u64 hash of each id."""
    return np.fromiter((xxhash.xxh3_64_intdigest(name.encode()) for name in ids), np.uint64, len(ids))


@dataclass
class _Stream:
    """One source: its rows epoch after epoch, with those that must wait for a batch without their cluster."""

    rows: np.ndarray
    keys: np.ndarray
    clusters: np.ndarray
    seed: int
    epoch: int = -1
    at: int = 0
    order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    waiting: dict[int, list[int]] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)

    def take(self, wanted: int, present: set[int]) -> list[int]:
        """`wanted` rows whose clusters are not `present`; `present` grows by theirs."""
        taken: list[int] = []
        for cluster in [c for c in self.waiting if c not in present][:wanted]:
            line = self.waiting[cluster]
            row = line.pop(0)
            self.held.discard(row)
            if not line:
                del self.waiting[cluster]
            present.add(cluster)
            taken.append(row)
        seen = 0
        while len(taken) < wanted:
            if seen > 2 * len(self.rows):
                raise UserError(
                    f"a batch needs {wanted:,} pairs of different duplicate clusters from one source and there are not"
                    " that many",
                    where="batch_size",
                    fix="choose a smaller batch_size, or give more pairs",
                )
            row = self._next()
            seen += 1
            cluster = int(self.clusters[row])
            if cluster not in present:
                present.add(cluster)
                taken.append(row)
            elif row not in self.held:  # an earlier copy of it may still be waiting
                self.waiting.setdefault(cluster, []).append(row)
                self.held.add(row)
        return taken

    def _next(self) -> int:
        if self.at == len(self.order):
            self.epoch += 1
            self.order = self.rows[keyed_order(self.keys[self.rows], self.seed, self.epoch)]
            self.at = 0
        self.at += 1
        return int(self.order[self.at - 1])


def _order(
    pairs: pa.Table, usable: np.ndarray, reasons: list[str | None], options: BatchOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each batch, (batches, batch_size), and which rows were used; names the reason of rows never placed."""
    source = np.asarray(pairs["source"].to_numpy(zero_copy_only=False), dtype=object)
    clusters = pairs["cluster"].to_numpy()
    keys = content_keys(pairs["pair_id"].to_pylist())
    unknown = sorted(set(options.weights) - set(source))
    if unknown:
        there = ", ".join(sorted(set(source)))
        raise UserError(
            f"no pairs of source {unknown[0]!r}; there are: {there}", where="weights", fix="name one of them"
        )
    streams: dict[str, _Stream] = {}
    for name in sorted(set(source[usable])):
        rows = np.flatnonzero(usable & (source == name))
        dropped = None
        if options.weights and not options.weights.get(name):
            dropped = "weight_zero"
        elif options.homogeneous and len(np.unique(clusters[rows])) < options.batch_size:
            dropped = "source_smaller_than_batch"
        if dropped:
            for row in rows:
                reasons[row] = dropped
            continue
        streams[name] = _Stream(rows, keys, clusters, options.seed)
    total = sum(len(stream.rows) for stream in streams.values())
    batches = options.steps or int(options.epochs * total // options.batch_size)
    if not streams or batches == 0 or (not options.homogeneous and _clusters(streams) < options.batch_size):
        raise UserError(
            f"{int(usable.sum()):,} usable pairs do not fill one batch of {options.batch_size:,} pairs of different"
            " duplicate clusters",
            where="batch_size",
            fix="choose a smaller batch_size, or give more pairs",
        )
    shares = _shares(streams, options)
    drawn = dict.fromkeys(streams, 0)
    out = np.empty((batches, options.batch_size), np.int64)
    for batch in range(batches):
        present: set[int] = set()
        chosen: list[int] = []
        for name, wanted in _quota(shares, drawn, batch, options).items():
            chosen += streams[name].take(wanted, present)
            drawn[name] += wanted
        out[batch] = chosen
    used = np.zeros(pairs.num_rows, bool)
    used[out.ravel()] = True
    for stream in streams.values():
        for held in stream.held:
            if not used[held]:
                reasons[held] = "cluster_conflict"
    return out, used


def _quota(shares: dict[str, float], drawn: dict[str, int], batch: int, options: BatchOptions) -> dict[str, int]:
    """How many pairs of each source batch number `batch` takes: whatever keeps the total nearest to the shares."""
    size = options.batch_size
    if options.homogeneous:
        behind = max(shares, key=lambda name: (shares[name] * (batch + 1) * size - drawn[name], name))
        return {behind: size}
    due = {name: share * (batch + 1) * size - drawn[name] for name, share in shares.items()}
    whole = {name: max(int(np.floor(value)), 0) for name, value in due.items()}
    by_rest = sorted(due, key=lambda name: (whole[name] - due[name], name))
    for at in range(size - sum(whole.values())):
        whole[by_rest[at % len(by_rest)]] += 1
    while (over := sum(whole.values()) - size) > 0:
        most = max(whole, key=lambda name: (whole[name], name))
        whole[most] -= min(over, whole[most])
    return whole


def _shares(streams: dict[str, _Stream], options: BatchOptions) -> dict[str, float]:
    weight = {name: options.weights.get(name, 0.0) if options.weights else len(s.rows) for name, s in streams.items()}
    total = sum(weight.values())
    return {name: value / total for name, value in weight.items()}


def _clusters(streams: dict[str, _Stream]) -> int:
    return len(np.unique(np.concatenate([stream.clusters[stream.rows] for stream in streams.values()])))


def _usable(pairs: pa.Table, hard: int) -> tuple[np.ndarray, list[str | None]]:
    """Which rows may be drawn, and why the others may not."""
    ids = pairs["pair_id"].to_numpy(zero_copy_only=False)
    empty = ~(_written(pairs["x"]) & _written(pairs["y"]))
    again = np.zeros(len(ids), bool)
    again[1:] = ids[1:] == ids[:-1]
    few = np.zeros(len(ids), bool)
    if hard:
        few = np.array(
            [sum(bool(text.strip()) for text in (row or [])[:hard]) < hard for row in pairs["hard"].to_pylist()]
        )
    reasons: list[str | None] = [
        "same_pair_id" if a else "empty_side" if e else "too_few_hard_negatives" if f else None
        for a, e, f in zip(again, empty, few, strict=True)
    ]
    return ~(empty | again | few), reasons


def _written(texts: pa.ChunkedArray) -> np.ndarray:
    """True where there is more than white space."""
    return pc.not_equal(pc.utf8_trim_whitespace(texts), "").to_numpy(zero_copy_only=False)


def _hard(pairs: pa.Table, encode: Encode, options: BatchOptions) -> tuple[pa.LargeListArray, pa.LargeListArray]:
    """Token ids and hashes of the first `hard_negatives` of each pair."""
    most = options.hard_negatives
    texts = [text for row in pairs["hard"].to_pylist() for text in row[:most]]
    hashes = [row[:most] for row in pairs["hard_hash"].to_pylist()]
    ids = _tokens(pa.chunked_array([texts], pa.string()), encode, options.max_y_tokens)
    offsets = pa.array(np.arange(pairs.num_rows + 1, dtype=np.int64) * most)
    return pa.LargeListArray.from_arrays(offsets, ids), pa.array(hashes, large(HARD[1].type))


def _tokens(texts: pa.ChunkedArray, encode: Encode, most: int) -> pa.LargeListArray:
    """Token ids of each text, truncated, as one large list<i32> array; encoded by blocks so that little is alive at once."""
    blocks = []
    for start in range(0, len(texts), 4096):
        rows = _truncated(texts.slice(start, 4096).to_pylist(), encode, most)
        blocks.append(pa.array(rows, TOKENS))
    return pa.concat_arrays(blocks) if blocks else pa.array([], TOKENS)


def _truncated(texts: list[str], encode: Encode, most: int) -> list[list[int]]:
    """The first `most` tokens of each text. Only the beginning of a long text is encoded, up to the end of a word, where
    no token crosses; if that was too short, all of it is."""
    begun = [_beginning(text, most * CHARACTERS_PER_TOKEN) for text in texts]
    ids = encode(begun)
    short = [i for i, row in enumerate(ids) if len(row) < most and len(begun[i]) < len(texts[i])]
    for i, row in zip(short, encode([texts[i] for i in short]) if short else [], strict=True):
        ids[i] = row
    return [row[:most] for row in ids]


def _beginning(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most
    while end and not (text[end].isspace() and not text[end - 1].isspace()):
        end -= 1
    return text[:end] if end else text


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: a bijection of u64 in which every input bit moves half of the output bits."""
    with np.errstate(over="ignore"):
        mixed = values.astype(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


@contextmanager
def _open(name: str) -> Iterator[pq.ParquetFile]:
    fs, target = fsspec.core.url_to_fs(name)
    with fs.open(target, "rb") as source, pq.ParquetFile(source) as file:
        yield file
