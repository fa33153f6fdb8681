"""Texts packed into equal windows of tokens, in a materialised order, for causal language modelling.

    texts -> order     sorted by a keyed hash of their id
    order -> stream    each text followed by the end-of-text id, in a file
    stream -> windows  of `context` tokens, none padded; a window may hold several texts
    windows -> batches shuffled by a keyed hash of their number, one row group per global batch

Only as many texts are tokenised as the asked-for steps need. Up to ONE_TABLE texts are ordered as one table; more go
through an exchange by ranges of the order, of which one is in memory at a time. The stream is mapped from disk, so that what
is held of it is the order of its windows, 16 bytes each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from cpt_ray.artifacts.exchange import buckets_for, by_range, receive
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.parquet import read_batches
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import read_manifest, read_table
from cpt_ray.errors import UserError
from cpt_ray.pairs.batches import write_batches
from cpt_ray.pairs.order import content_keys, keyed_order, mix, salt
from cpt_ray.pairs.phases import Phases, Shard, clear_phases, numbered_shards
from cpt_ray.pairs.tokens import Listed
from cpt_ray.train.options import PackOptions

WINDOWS = pa.schema([("batch", pa.int32()), ("slot", pa.int32()), ("ids", pa.list_(pa.int32()))])
BLOCK = 512
PACK = Stage("windows", version=1, gives=WINDOWS, unit="texts", reads=("id", "text"))
ONE_TABLE = 50_000
"""Texts that are ordered as one table, in memory; of a range of the order about as many."""
KEYED = pa.schema([("key", pa.uint64()), ("id", pa.string()), ("text", pa.string())])


def pack(
    texts: Iterable[pa.Table], count: int, encode: Listed, end: int, options: PackOptions, stream: str
) -> tuple[Iterator[pa.Table], Ledger]:
    """Batches of WINDOWS from the column `text` of `count` rows in their order; `end` is the end-of-text token id, `stream`
    a file for the tokens, which has to stay as long as batches are taken."""
    wanted = options.steps * options.batch_size * options.context if options.steps else None
    tokens = kept = empty = 0
    with open(stream, "wb") as sink:
        for block in _blocks(texts):
            for found in encode(block["text"].to_pylist()):
                if found:
                    np.array([*found, end], np.int32).tofile(sink)
                    tokens, kept = tokens + len(found) + 1, kept + 1
                else:
                    empty += 1
            if wanted is not None and tokens >= wanted:
                break
    count_windows = tokens // options.context
    batches = options.steps or options.epochs * count_windows // options.batch_size
    if count_windows == 0 or batches == 0:
        raise UserError(
            f"{tokens:,} tokens do not fill one batch of {options.batch_size} windows of {options.context}",
            where="batch_size",
            fix="give more texts, or choose a smaller batch_size or context",
        )
    windows = np.memmap(stream, np.int32, "r", shape=(count_windows, options.context))
    epochs = -(-batches * options.batch_size // count_windows)
    keys = np.arange(count_windows, dtype=np.uint64)
    taken = np.concatenate([keyed_order(keys, options.seed, epoch) for epoch in range(epochs)])
    taken = taken[: batches * options.batch_size].reshape(batches, options.batch_size)

    def tables() -> Iterator[pa.Table]:
        for batch, rows in enumerate(taken):
            values = windows[rows].ravel()
            offsets = np.arange(len(rows) + 1, dtype=np.int32) * options.context
            yield pa.table(
                {
                    "batch": pa.array(np.full(len(rows), batch, np.int32)),
                    "slot": pa.array(np.arange(len(rows), dtype=np.int32)),
                    "ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)),
                },
                schema=WINDOWS,
            )

    dropped = {"empty": empty, "not_reached": count - kept - empty}
    ledger = Ledger.of("texts", read=count, kept=kept, dropped=dropped)
    return tables(), ledger + Ledger.of("windows", read=taken.size, kept=taken.size)


def in_order(texts: pa.Table, seed: int) -> pa.Table:
    """A table with the columns `id` and `text` in the order in which its texts are packed."""
    return _keyed(texts, seed).sort_by([("key", "ascending"), ("id", "ascending")])


def build_windows(
    path: str, texts: pa.Table | str, encode: Listed, end: int, options: PackOptions, inputs: dict[str, str | Manifest]
) -> Manifest:
    """Publish at `path`, in a folder, the packed batches of `texts`: a table, or the artifact of one, which may be larger
    than memory. `inputs` must name the texts, an artifact as `corpus`, and the tokenizer."""
    with PACK.build(path, params=options, inputs=inputs) as work:
        if not work.done:
            count = texts.num_rows if isinstance(texts, pa.Table) else read_manifest(texts).rows
            if isinstance(texts, str) and count <= ONE_TABLE:
                texts = read_table(texts, ["id", "text"])
            if isinstance(texts, pa.Table):
                ordered: Iterable[pa.Table] = [in_order(texts, options.seed)]
            else:
                ordered = _in_order_across(path, texts, count, options, inputs)
            tables, ledger = pack(ordered, count, encode, end, options, os.path.join(work.scratch, "tokens"))
            count = write_batches(work, tables)
            work.publish(ledger, rows=count * options.batch_size, schema=WINDOWS, extra={"batches": count})
        clear_phases(path)
        assert work.manifest is not None
        return work.manifest


def _in_order_across(
    path: str, corpus: str, count: int, options: PackOptions, inputs: dict[str, str | Manifest]
) -> Iterator[pa.Table]:
    """The same, range by range."""
    phases = Phases(path, PACK, {"seed": options.seed}, {"corpus": inputs["corpus"]})
    buckets = buckets_for(count, ONE_TABLE)
    run = partial(_send, seed=options.seed)
    to = partial(by_range, column="key", buckets=buckets)
    sent, _ = phases.send("texts", run, KEYED, numbered_shards(corpus), to, buckets)
    for bucket in range(buckets):
        yield receive(sent, bucket, ("key", "id"))


def _send(shard: Shard, *, seed: int) -> tuple[pa.Table, Ledger]:
    table = _keyed(pa.concat_tables([*read_batches(shard, ("id", "text"))]), seed)
    return table, Ledger.of("texts", read=len(table), kept=len(table))


def _keyed(texts: pa.Table, seed: int) -> pa.Table:
    keys = mix(content_keys(texts["id"].to_pylist()) ^ salt(seed, 0))
    return pa.table([pa.array(keys), texts["id"], texts["text"]], schema=KEYED)


def _blocks(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, BLOCK at a time, wherever tables end."""
    left = KEYED.empty_table()
    for table in tables:
        left = pa.concat_tables([left, table])
        for start in range(0, left.num_rows // BLOCK * BLOCK, BLOCK):
            yield left.slice(start, BLOCK)
        left = left.slice(left.num_rows // BLOCK * BLOCK)
    if left.num_rows:
        yield left
