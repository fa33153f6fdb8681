"""The corpus of language modelling: documents and documented functions of the training groups, in a seeded order.

The initial weights and the tokenizer must not have seen what is held out, so the same split is applied here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts, read_manifest, read_table
from cpt_ray.artifacts.exchange import Sent, buckets_for, by_number, in_range
from cpt_ray.pairs.options import CorpusOptions, SplitOptions
from cpt_ray.pairs.phases import Phases, Shard, clear_phases, kept
from cpt_ray.pairs.schema import ROWS_PER_PART, survivors
from cpt_ray.pairs.splits import heldout

CORPUS = pa.schema([("id", pa.string()), ("source", pa.string()), ("group", pa.string()), ("text", pa.string())])
GATHER = Stage("corpus", version=1, gives=CORPUS, unit="texts")
ONE_TABLE = 100_000
"""Rows, with those of the clusters, that become a corpus as one table, in memory; more, or longer ones, go through
exchanges."""
FINE = 1 << 16
"""Ranges of the order that texts are counted in: a part and the corpus end at one of them, but for a cut in the last."""
NOT_TAKEN = -1
COUNTED = pa.schema([("range", pa.int32()), ("texts", pa.int64())])
KEYED = pa.schema([("part", pa.int32()), ("key", pa.uint64()), *CORPUS])
OfShard = Callable[[Shard, Sequence[str]], tuple[pa.Table, Ledger]]


class Source(NamedTuple):
    """An artifact: its path, that of its clusters, the id column, and the columns that make a text, line by line."""

    rows: str
    clusters: str
    id_column: str
    text_columns: tuple[str, ...]


def make_corpus(path: str, sources: Mapping[str, Source], *, split: SplitOptions, options: CorpusOptions) -> Manifest:
    """Publish the corpus of `sources` (by name) at `path`: kept texts of training groups, sorted by a seeded hash.

    Dropped: `duplicate` (its cluster keeps another), `heldout` (its group is held out), `beyond_max_texts`.
    """
    inputs: dict[str, str | Manifest] = {}
    for name, source in sources.items():
        inputs |= {f"{name}.rows": read_manifest(source.rows), f"{name}.clusters": read_manifest(source.clusters)}
    params = {
        "sources": {name: [source.id_column, *source.text_columns] for name, source in sources.items()},
        "split": split.result(),
        **options.result(),
    }
    rows = sum(manifest.rows for manifest in inputs.values() if isinstance(manifest, Manifest))
    texts = ((parquet.shards_of(parts(one.rows)), ONE_TABLE, one.text_columns) for one in sources.values())
    done = GATHER.begun(path, params=params, inputs=inputs) == "done"
    if not done and (rows > ONE_TABLE or not all(parquet.is_small(*one) for one in texts)):
        return _across(path, sources, split, options, params, inputs)
    with GATHER.build(path, params=params, inputs=inputs) as work:
        if work.manifest is not None:
            clear_phases(path)
            return work.manifest
        tables: list[pa.Table] = []
        reasons: list[str | None] = []
        for name, source in sources.items():
            table, why = _texts(name, source, split, options)
            tables.append(table)
            reasons += why
        texts = seeded_order(pa.concat_tables(tables), options)
        beyond = sum(reason is None for reason in reasons) - texts.num_rows
        work.write_parts(texts, ROWS_PER_PART)
        ledger = Ledger.count("texts", reasons)
        if beyond:
            ledger += Ledger.of(
                "chosen", read=texts.num_rows + beyond, kept=texts.num_rows, dropped={"beyond_max_texts": beyond}
            )
        return work.publish(ledger, rows=texts.num_rows, schema=CORPUS)


def seeded_order(texts: pa.Table, options: CorpusOptions) -> pa.Table:
    """The first `max_texts` rows by a hash of (seed, id): a fair mix of all sources, whatever their order."""
    ids = texts["id"].to_pylist()
    keys = _keys(ids, options.seed)
    order = np.lexsort((np.asarray(ids, dtype=object).astype(str), keys)) if ids else np.empty(0, np.int64)
    return texts.take(pa.array(order[: options.max_texts]))


def _keys(ids: list[str], seed: int) -> np.ndarray:
    return np.fromiter((xxhash.xxh3_64_intdigest(name.encode(), seed) for name in ids), np.uint64, len(ids))


def _texts(name: str, source: Source, split: SplitOptions, options: CorpusOptions) -> tuple[pa.Table, list[str | None]]:
    table = read_table(source.rows, [source.id_column, "group", *source.text_columns])
    kept = survivors(table[source.id_column], read_table(source.clusters)).kept
    held = heldout(table["group"], split).to_pylist()
    reasons = [_reason(is_kept, is_held) for is_kept, is_held in zip(kept, held, strict=True)]
    chosen = table.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    return _written(name, source, chosen, options), reasons


def _written(name: str, source: Source, rows: pa.Table, options: CorpusOptions) -> pa.Table:
    """Rows of a source as texts of the corpus."""
    texts = pc.binary_join_element_wise(*(rows[column] for column in source.text_columns), "\n")
    made = {
        "id": rows[source.id_column],
        "source": pa.array([name] * rows.num_rows, pa.string()),
        "group": rows["group"],
        "text": pc.utf8_slice_codeunits(texts, 0, options.max_characters),
    }
    return pa.table(made, schema=CORPUS)


def _reason(kept: bool, held_out: bool) -> str | None:
    if not kept:
        return "duplicate"
    return "heldout" if held_out else None


def _across(
    path: str,
    sources: Mapping[str, Source],
    split: SplitOptions,
    options: CorpusOptions,
    params: Mapping[str, Any],
    inputs: Mapping[str, str | Manifest],
) -> Manifest:
    """The same rows of a corpus of any size: who is kept is asked by an exchange, texts go to their range of the order.

    1. A shard says how many of its texts stand in each of FINE ranges of the order; where `max_texts` end is known then.
    2. It sends those before that place to parts of about ROWS_PER_PART.
    3. A part is sorted; the last one is cut.
    """
    phases = Phases(path, GATHER, params, inputs)
    shards: list[Shard] = []
    known: dict[str, Sent] = {}
    for name, source in sources.items():
        found, known[name] = phases.clusters(source.rows, source.clusters, source.id_column, of=f"-{name}")
        shards += [{**shard, "source": name} for shard in found]
    of_shard = partial(_training, sources=sources, known=known, split=split)
    counted, made = phases.map("counted", partial(_count, of_shard=of_shard, options=options), COUNTED, shards)
    counts = np.zeros(FINE, np.int64)
    for part in counted:
        table = parquet.read_table(part)
        np.add.at(counts, table["range"].to_numpy(), table["texts"].to_numpy())
    before = np.cumsum(counts)
    last = int(np.searchsorted(before, options.max_texts))
    count = buckets_for(int(before[min(last, FINE - 1)]), ROWS_PER_PART)
    # Of the ranges that are taken, to parts of about equally many texts.
    part_of = np.minimum((before - counts) * count // max(int(before[min(last, FINE - 1)]), 1), count - 1)
    part_of[last + 1 :] = NOT_TAKEN
    send = partial(_send, of_shard=of_shard, sources=sources, part_of=part_of, options=options)
    sent, _ = phases.send("texts", send, KEYED, shards, partial(by_number, column="part"), count)
    rows = phases.rows_of("texts", count)
    beyond = int(before[-1]) - min(int(before[-1]), options.max_texts)
    ledger = made.balance
    if beyond:
        chosen = int(before[-1])
        ledger += Ledger.of("chosen", read=chosen, kept=chosen - beyond, dropped={"beyond_max_texts": beyond})
    ends = np.minimum(np.cumsum(rows), options.max_texts)
    most = np.diff(ends, prepend=0).tolist()
    return phases.publish(sent, ("key", "id"), ledger, params=params, inputs=inputs, most=most)


def _training(
    shard: Shard,
    columns: Sequence[str],
    *,
    sources: Mapping[str, Source],
    known: Mapping[str, Sent],
    split: SplitOptions,
) -> tuple[pa.Table, Ledger]:
    """The rows of a shard that are kept and of a training group."""
    source = sources[shard["source"]]
    table, _, gone = kept(shard, known[shard["source"]], (source.id_column, "group", *columns))
    reasons = [_reason(True, held) for held in heldout(table["group"], split).to_pylist()]
    ledger = Ledger.of("texts", read=len(gone), kept=0, dropped={"duplicate": len(gone)}) + Ledger.count(
        "texts", reasons
    )
    return table.filter(pa.array([reason is None for reason in reasons], pa.bool_())), ledger


def _count(shard: Shard, *, of_shard: OfShard, options: CorpusOptions) -> tuple[pa.Table, Ledger]:
    table, ledger = of_shard(shard, ())
    ranges, texts = np.unique(in_range(_keys(table[0].to_pylist(), options.seed), FINE), return_counts=True)
    return pa.table([pa.array(ranges, pa.int32()), pa.array(texts, pa.int64())], schema=COUNTED), ledger


def _send(
    shard: Shard, *, of_shard: OfShard, sources: Mapping[str, Source], part_of: np.ndarray, options: CorpusOptions
) -> tuple[pa.Table, Ledger]:
    source = sources[shard["source"]]
    table, _ = of_shard(shard, source.text_columns)
    keys = _keys(table[source.id_column].to_pylist(), options.seed)
    part = part_of[in_range(keys, FINE)]
    taken = pa.array(part != NOT_TAKEN)
    texts = _written(shard["source"], source, table.filter(taken), options)
    columns = [pa.array(part, pa.int32()).filter(taken), pa.array(keys).filter(taken), *texts.columns]
    dropped = {"beyond_max_texts": len(table) - len(texts)}
    return pa.table(columns, schema=KEYED), Ledger.of("texts", read=len(table), kept=len(texts), dropped=dropped)


def batches_of_texts(path: str) -> Iterable[list[str]]:
    """The texts of a corpus in order, part by part."""
    for part in parts(path):
        yield parquet.read_table(part, ["text"])["text"].to_pylist()
