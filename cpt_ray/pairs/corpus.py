"""The corpus of language modelling: documents and documented functions of the training groups, in a seeded order.

The initial weights and the tokenizer must not have seen what is held out, so the same split is applied here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts, read_manifest, read_table
from cpt_ray.pairs.options import CorpusOptions, SplitOptions
from cpt_ray.pairs.schema import survivors
from cpt_ray.pairs.splits import HELDOUT, side

CORPUS = pa.schema([("id", pa.string()), ("source", pa.string()), ("group", pa.string()), ("text", pa.string())])
GATHER = Stage("corpus", version=1, gives=CORPUS, unit="texts")
ROWS_PER_PART = 50_000


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
    with GATHER.build(path, params=params, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        tables: list[pa.Table] = []
        reasons: list[str | None] = []
        for name, source in sources.items():
            table, why = _texts(name, source, split, options)
            tables.append(table)
            reasons += why
        kept = seeded_order(pa.concat_tables(tables), options)
        beyond = sum(reason is None for reason in reasons) - kept.num_rows
        for number, start in enumerate(range(0, max(kept.num_rows, 1), ROWS_PER_PART)):
            name = posixpath.join(work.path, f"part-{number:05d}.parquet")
            parquet.write_table(name, kept.slice(start, ROWS_PER_PART))
        ledger = Ledger.count("texts", reasons)
        if beyond:
            ledger += Ledger.of(
                "chosen", read=kept.num_rows + beyond, kept=kept.num_rows, dropped={"beyond_max_texts": beyond}
            )
        return work.publish(ledger, rows=kept.num_rows, schema=CORPUS)


def seeded_order(texts: pa.Table, options: CorpusOptions) -> pa.Table:
    """The first `max_texts` rows by a hash of (seed, id): a fair mix of all sources, whatever their order."""
    ids = texts["id"].to_pylist()
    keys = np.fromiter((xxhash.xxh3_64_intdigest(i.encode(), options.seed) for i in ids), np.uint64, len(ids))
    order = np.lexsort((np.asarray(ids, dtype=object).astype(str), keys)) if ids else np.empty(0, np.int64)
    return texts.take(pa.array(order[: options.max_texts]))


def _texts(name: str, source: Source, split: SplitOptions, options: CorpusOptions) -> tuple[pa.Table, list[str | None]]:
    table = read_table(source.rows, [source.id_column, "group", *source.text_columns])
    _, kept = survivors(table[source.id_column], read_table(source.clusters))
    groups = table["group"].to_pylist()
    held = {group for group in set(groups) if side(group, split) == HELDOUT}
    reasons = [_reason(is_kept, group in held) for is_kept, group in zip(kept, groups, strict=True)]
    chosen = table.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    texts = pc.binary_join_element_wise(*(chosen[column] for column in source.text_columns), "\n")
    made = pa.table(
        {
            "id": chosen[source.id_column],
            "source": pa.array([name] * chosen.num_rows, pa.string()),
            "group": chosen["group"],
            "text": pc.utf8_slice_codeunits(texts, 0, options.max_characters),
        },
        schema=CORPUS,
    )
    return made, reasons


def _reason(kept: bool, held_out: bool) -> str | None:
    if not kept:
        return "duplicate"
    return "heldout" if held_out else None


def batches_of_texts(path: str) -> Iterable[list[str]]:
    """The texts of a corpus in order, part by part."""
    for part in parts(path):
        yield parquet.read_table(part, ["text"])["text"].to_pylist()
