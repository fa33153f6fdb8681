"""Batches of pairs of any number, by exchanges, to the bytes of one table with everything in it (`batches.materialise`).

1. *keys*: a shard of the pairs says what it has: id, source, cluster, where it stands; to ranges of the id's hash.
2. *known*: a range keeps one row of each id. How many pairs each source has, and so the plan, is known from here on.
3. *epochs*: each known pair goes to its range of each epoch's order, by the keyed hash of that epoch.
4. *placed*: a range of the batches reads its streams from there and says which row stands in which slot; back to shards.
5. *tokens*: a shard encodes the pairs it was told of, and sends them to the parts of the batches they stand in.
6. Each part is sorted by batch and slot, and written.

The text of a shard is read twice and never leaves it but as tokens; of everything else a pair is about 30 bytes an epoch.
A driver holds how many rows went where.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Count, Ledger, LedgerError, Manifest, parquet, read_manifest, read_table
from cpt_ray.artifacts.columns import whole
from cpt_ray.artifacts.exchange import Sent, buckets_for, by_number, by_range, in_range, receive
from cpt_ray.artifacts.parquet import read_batches
from cpt_ray.errors import UserError
from cpt_ray.pairs.batches import (
    ORDER,
    batches_of_a_part,
    columns_of,
    copies,
    encoded,
    publish_batches,
    schema_of,
    unusable,
)
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.order import (
    Plan,
    Pulled,
    Range,
    Stream,
    TooShort,
    content_keys,
    mix,
    place,
    plan,
    ranges,
    repeated,
    salt,
)
from cpt_ray.pairs.phases import Phases, Shard, clear_phases, numbered, numbered_shards
from cpt_ray.pairs.splits import no_pairs, no_such_rows, read_side
from cpt_ray.pairs.tokens import Encode

KEYS = pa.schema(
    [
        ("key", pa.uint64()),
        ("pair_id", pa.string()),
        ("source", pa.string()),
        ("cluster", pa.uint64()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("copies", pa.int32()),
    ]
)
KNOWN = pa.schema([field for field in KEYS if field.name not in ("pair_id", "copies")])
EPOCH = pa.schema(
    [
        ("bucket", pa.int32()),
        ("key", pa.uint64()),
        ("cluster", pa.uint64()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
    ]
)
PLACED = pa.schema([("batch", pa.int32()), ("slot", pa.int32()), ("shard", pa.int32()), ("row", pa.int32())])
WAITS = -1
"""In place of a batch: the row was waiting for one when its range of the batches ended."""
TOLD = 1 << 17
"""Slots that one task fills with tokens."""
EPOCHS = 4
"""Epochs whose order one task makes of a range of ids."""
OF = "of "
"""Before the name of a source, where a ledger counts its pairs."""
SHOWN = "shown of "
"""And what an epoch shows of them."""
ONE_TABLE = 100_000
"""Pairs that are ordered as one table, in memory."""
ROOM = 1 / 8
"""Of a source: how much of it is made ready behind what the quotas ask for, because some pairs wait."""
_NOTHING = Sent("", 0, 0, EPOCH)


def make_batches(
    path: str,
    pairs: str,
    encode: Encode,
    options: BatchOptions,
    *,
    inputs: Mapping[str, str | Manifest],
    split: str | None = None,
) -> Manifest:
    """Publish the batches of the artifact `pairs` at `path`, of its "train" or "heldout" side alone where one is named.

    `inputs` name the pairs and the tokenizer. What is under way stays in `<path>.phases` until then. Raises UserError as
    `materialise` does.
    """
    there = read_manifest(pairs)
    if split and "split" not in there.columns:
        raise no_pairs(pairs)
    if there.rows <= ONE_TABLE or ORDER.begun(path, params=options, inputs=inputs) == "done":
        clear_phases(path)
        with ORDER.build(path, params=options, inputs=inputs) as work:
            # One that stands is of any number of pairs: they are not read for it.
            return work.manifest or publish_batches(work, _held(pairs, split, options), encode, options)
    missing = [name for name in columns_of(options) if name not in there.columns]
    if missing:
        raise UserError(f"the pairs have no column {missing[0]!r}", where=pairs, fix="give pairs of the right kind")
    return _across(path, pairs, encode, options, inputs, split)


def _held(pairs: str, split: str | None, options: BatchOptions) -> pa.Table:
    """The pairs, or those of one side, in memory."""
    return read_side(pairs, split, columns_of(options)) if split else read_table(pairs)


class _Streams(NamedTuple):
    """What was sent of each source: pairs, epochs, buckets of an epoch, the first bucket; and the rows of every bucket."""

    sent: Sent
    sizes: dict[str, int]
    epochs: dict[str, int]
    buckets: dict[str, int]
    first: dict[str, int]
    rows: list[int]

    def pull(self, name: str, start: int) -> Iterator[Pulled]:
        """The stream of a source from position `start` to the end of what was sent."""
        epoch, rank = divmod(start, self.sizes[name])
        end = self.first[name] + self.epochs[name] * self.buckets[name]
        for bucket in range(self.first[name] + epoch * self.buckets[name], end):
            if rank >= self.rows[bucket]:
                rank -= self.rows[bucket]
                continue
            # Two keys are equal only where two ids have one hash; those are sorted by where they stand.
            table = receive(self.sent, bucket, ("key", "shard", "row")).slice(rank)
            rank = 0
            rows = (table["shard"].to_numpy().astype(np.int64) << 32) | table["row"].to_numpy()
            yield from zip(rows.tolist(), table["cluster"].to_pylist(), strict=True)


def _across(
    path: str,
    pairs: str,
    encode: Encode,
    options: BatchOptions,
    inputs: Mapping[str, str | Manifest],
    split: str | None,
) -> Manifest:
    phases = Phases(path, ORDER, {"options": options.result(), "split": split}, inputs)
    shards = numbered_shards(pairs)
    ranged = buckets_for(read_manifest(pairs).rows)
    keys = partial(_keys, split=split, options=options)
    sent, read = phases.send("keys", keys, KEYS, shards, partial(by_range, column="key", buckets=ranged), ranged)
    if split and not read.balance.rows_in:
        raise no_such_rows(pairs, split)
    files, known = phases.map("known", _known, KNOWN, [{"bucket": bucket} for bucket in range(ranged)], sent=sent)
    sizes = {name.removeprefix(SHOWN): c.kept for name, c in known.balance.units.items() if name.startswith(SHOWN)}
    planned = plan(sizes, partial(_differ, files, options.batch_size), options)
    placed, told = _place(phases, planned, files, len(shards), options)
    per_part = batches_of_a_part(options.batch_size)
    count = -(-planned.batches // per_part)
    tokens = partial(_tokens, placed=placed, encode=encode, options=options)
    # A shard as often as it has TOLD slots to fill.
    tasks = [
        {**shard, "start": start, "stop": start + TOLD}
        for shard, rows in zip(shards, told, strict=True)
        for start in range(0, max(rows, 1), TOLD)
    ]
    to = partial(_by_part, per_part=per_part)
    filled, made = phases.send("tokens", tokens, schema_of(options), tasks, to, count)
    ledger = _balance(read.balance, known.balance, planned, made.balance, planned.batches * options.batch_size)
    return phases.publish(
        filled,
        ("batch", "slot"),
        ledger,
        params=options,
        inputs=inputs,
        extra={"batches": planned.batches},
        row_group=options.batch_size,
    )


def _place(
    phases: Phases, planned: Plan, files: Sequence[str], shards: int, options: BatchOptions
) -> tuple[Sent, list[int]]:
    """Steps 3 and 4, and how many rows each shard is told of; again with twice the epochs where pairs had to wait so
    often that a stream ended."""
    sizes, of_batches = planned.sizes, ranges(planned, options)
    last = of_batches[-1]
    drawn = {name: last.at[name] + sum(quota.get(name, 0) for quota in last.quotas) for name in sizes}
    buckets = {name: buckets_for(size) for name, size in sizes.items()}
    epochs = {name: int(drawn[name] / size + ROOM) + 1 for name, size in sizes.items()}
    by_shard = partial(by_number, column="shard")
    while True:
        *first, total = itertools.accumulate((epochs[name] * buckets[name] for name in sizes), initial=0)
        most = max(epochs.values())
        spans = [(start, min(start + EPOCHS, most)) for start in range(0, most, EPOCHS)]
        streams = _Streams(_NOTHING, sizes, epochs, buckets, dict(zip(sizes, first, strict=True)), [])
        run = partial(_epochs, streams=streams, seed=options.seed)
        asked = [{"path": name, "epochs": span} for span in spans for name in files]
        sent, _ = phases.send(f"epochs-{most}", run, EPOCH, asked, partial(by_number, column="bucket"), total)
        streams = streams._replace(sent=sent, rows=phases.rows_of(f"epochs-{most}", total))
        parts_of = [part._asdict() for part in of_batches]
        name = f"placed-{most}"
        placed, made = phases.send(name, partial(_placed, streams=streams), PLACED, parts_of, by_shard, max(shards, 1))
        if made.balance.units["ranges"].kept == len(of_batches):
            return placed, phases.rows_of(name, shards)
        epochs = {name: 2 * count for name, count in epochs.items()}


def _keys(shard: Shard, *, split: str | None, options: BatchOptions) -> tuple[pa.Table, Ledger]:
    """Of each usable pair what its order depends on."""
    columns = [name for name in columns_of(options) if name not in ("x_hash", "y_hash", "hard_hash")]
    tables, ledger, start = [KEYS.empty_table()], Ledger.empty(), 0
    for table in read_batches(shard, [*columns, *(["split"] if split else [])]):
        rows = np.arange(start, start + len(table), dtype=np.int32)
        start += len(table)
        if split:
            ours = pc.equal(table["split"], split)
            table, rows = table.filter(ours), rows[ours.to_numpy().astype(bool)]
        reasons = unusable(table, options.hard_negatives)
        ledger += Ledger.count("pairs", reasons)
        usable = pa.array([reason is None for reason in reasons], pa.bool_())
        table, rows = table.filter(usable), pa.array(rows, pa.int32()).filter(usable)
        keys = pa.array(content_keys(table["pair_id"].to_pylist()))
        found = [keys, table["pair_id"], table["source"], table["cluster"], numbered(shard, len(table)), rows]
        found.append(pa.array(copies(table, options)))
        tables.append(pa.table(found, names=KEYS.names).cast(KEYS))
    return pa.concat_tables(tables), ledger


def _known(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    """One row of each id, as often as an epoch shows it; the ledger counts each source in units of its name too."""
    table = receive(sent, shard["bucket"], ("pair_id", "shard", "row"))
    ids = whole(table["pair_id"])
    again = np.zeros(len(table), bool)
    again[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    known = table.filter(pa.array(~again))
    ledger = Ledger.of("pairs", read=len(table), kept=len(known), dropped={"same_pair_id": int(again.sum())})
    at, keys = repeated(known["key"].to_numpy(), known["copies"].to_numpy())
    shown = known.select(KNOWN.names).take(pa.array(at)).set_column(0, KNOWN.field("key"), pa.array(keys))
    for unit, rows in ((OF, known), (SHOWN, shown)):
        for count in rows["source"].value_counts().to_pylist():
            ledger += Ledger.of(unit + count["values"], read=count["counts"], kept=count["counts"])
    return shown, ledger


def _differ(files: Sequence[str], most: int, names: Collection[str]) -> bool:
    """Whether these sources have `most` clusters together; read no further than that."""
    found: set[int] = set()
    for name in files:
        table = parquet.read_table(name, ["source", "cluster"])
        theirs = table.filter(pc.is_in(table["source"], pa.array(list(names), pa.string())))
        for start in range(0, len(theirs), most):
            found.update(theirs["cluster"].slice(start, most).to_pylist())
            if len(found) >= most:
                return True
    return False


def _epochs(shard: Shard, *, streams: _Streams, seed: int) -> tuple[pa.Table, Ledger]:
    """Where the pairs of a range stand in some of the epochs."""
    table = parquet.read_table(shard["path"])
    tables = [EPOCH.empty_table()]
    for name, epochs in streams.epochs.items():
        theirs = table.filter(pc.equal(table["source"], name))
        keys = theirs["key"].to_numpy()
        for epoch in range(shard["epochs"][0], min(shard["epochs"][1], epochs)):
            mixed = mix(keys ^ salt(seed, epoch))
            buckets = streams.buckets[name]
            bucket = streams.first[name] + epoch * buckets + in_range(mixed, buckets)
            columns = [pa.array(bucket, pa.int32()), pa.array(mixed), *theirs.select(("cluster", "shard", "row"))]
            tables.append(pa.table(columns, schema=EPOCH))
    made = pa.concat_tables(tables)
    return made, Ledger.of("rows", read=len(made), kept=len(made))


def _placed(shard: Shard, *, streams: _Streams) -> tuple[pa.Table, Ledger]:
    """The rows of a range of the batches, and those that wait when it ends."""
    part = Range(**shard)
    reading = {name: Stream(streams.pull(name, at), streams.sizes[name]) for name, at in part.at.items()}
    try:
        rows = place(reading, part.quotas)
    except TooShort:
        return PLACED.empty_table(), Ledger.of("ranges", read=1, kept=0, dropped={"a_stream_ended": 1})
    waiting = sorted(row for stream in reading.values() for row in stream.held)
    batch = np.repeat(np.arange(part.first, part.first + len(rows)), rows.shape[1])
    slot = np.tile(np.arange(rows.shape[1]), len(rows))
    nowhere = np.full(len(waiting), WAITS)
    stand = np.concatenate([rows.ravel(), np.array(waiting, np.int64)])
    columns = [np.concatenate([batch, nowhere]), np.concatenate([slot, nowhere]), stand >> 32, stand & 0xFFFFFFFF]
    return pa.table([pa.array(c.astype(np.int32)) for c in columns], schema=PLACED), Ledger.of("ranges", read=1, kept=1)


def _tokens(shard: Shard, *, placed: Sent, encode: Encode, options: BatchOptions) -> tuple[pa.Table, Ledger]:
    """The slots that a shard's pairs fill, TOLD of them; what became of its pairs is counted with the first."""
    told = receive(placed, shard["number"], ("batch", "slot", "row"))
    stands = pc.not_equal(told["batch"], WAITS)
    ledger = Ledger.empty()
    if not shard["start"]:
        used, waited = (set(told["row"].filter(mask).to_pylist()) for mask in (stands, pc.invert(stands)))
        never = len(waited - used)
        ledger = Ledger.of("pairs", read=len(used) + never, kept=len(used), dropped={"cluster_conflict": never})
    told = told.slice(shard["start"], shard["stop"] - shard["start"])
    told = told.filter(pc.not_equal(told["batch"], WAITS))
    rows, at = np.unique(told["row"].to_numpy(), return_inverse=True)
    tables, start = [], 0
    for table in read_batches(shard, columns_of(options)):
        ours = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(table))] - start
        start += len(table)
        tables.append(table.take(pa.array(ours)))
    # All at once: what is met again within a shard is encoded once.
    drawn = pa.table(encoded(pa.concat_tables(tables), encode, options)).take(pa.array(at))
    found = pa.table([told["batch"], told["slot"], *drawn.columns], names=schema_of(options).names)
    return found.cast(schema_of(options)), ledger + Ledger.of("slots", read=len(found), kept=len(found))


def _by_part(table: pa.Table, *, per_part: int) -> np.ndarray:
    return table["batch"].to_numpy().astype(np.int64) // per_part


def _balance(read: Ledger, known: Ledger, planned: Plan, made: Ledger, slots: int) -> Ledger:
    """The ledger of the whole: who was neither drawn nor dropped before was not reached."""
    nothing = Count(0, 0)
    before, once, drawn = (ledger.units.get("pairs", nothing) for ledger in (read, known, made))
    if before.kept != once.read or made.units.get("slots", nothing).kept != slots:
        raise LedgerError(f"{before.kept:,} pairs were sent, {once.read:,} seen; {slots:,} slots, {made.kept:,} filled")
    dropped = Counter(before.dropped) + Counter(once.dropped) + Counter(drawn.dropped)
    for name, reason in planned.left_out.items():
        dropped[reason] += known.units[OF + name].kept
    dropped["not_reached"] = before.read - drawn.kept - dropped.total()
    pairs = Ledger.of("pairs", read=before.read, kept=drawn.kept, dropped=dropped)
    return pairs + Ledger.of("slots", read=slots, kept=slots)
