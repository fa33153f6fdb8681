"""Texts packed into equal windows of tokens, in a materialised order, for causal language modelling.

    texts -> order     sorted by a keyed hash of their id
    order -> stream    each text followed by the end-of-text id
    stream -> windows  of `context` tokens, none padded; a window may hold several texts
    windows -> batches shuffled by a keyed hash of their number, one row group per global batch

Only as many texts are read as the asked-for steps need.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.stage import Stage
from cpt_ray.errors import UserError
from cpt_ray.pairs.batches import write_batches
from cpt_ray.pairs.order import content_keys, keyed_order
from cpt_ray.pairs.tokens import Listed
from cpt_ray.train.options import PackOptions

WINDOWS = pa.schema([("batch", pa.int32()), ("slot", pa.int32()), ("ids", pa.list_(pa.int32()))])
BLOCK = 512
PACK = Stage("windows", version=1, gives=WINDOWS, unit="texts", reads=("id", "text"))


def pack(texts: pa.Table, encode: Listed, end: int, options: PackOptions) -> tuple[Iterator[pa.Table], Ledger]:
    """Batches of WINDOWS from a table with the columns `id` and `text`; `end` is the end-of-text token id."""
    ids = texts["id"].to_pylist()
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    order = order[keyed_order(content_keys([ids[i] for i in order]), options.seed, 0)]
    wanted = options.steps * options.batch_size * options.context if options.steps else None
    stream: list[np.ndarray] = []
    reasons: list[str | None] = ["not_reached"] * len(ids)
    tokens = 0
    for start in range(0, len(order), BLOCK):
        if wanted is not None and tokens >= wanted:
            break
        rows = order[start : start + BLOCK]
        for row, found in zip(rows, encode(texts["text"].take(pa.array(rows)).to_pylist()), strict=True):
            reasons[row] = None if found else "empty"
            if found:
                stream.append(np.array([*found, end], np.int32))
                tokens += len(found) + 1
    flat = np.concatenate(stream) if stream else np.empty(0, np.int32)
    windows = flat[: len(flat) // options.context * options.context].reshape(-1, options.context)
    batches = options.steps or options.epochs * len(windows) // options.batch_size
    if len(windows) == 0 or batches == 0:
        raise UserError(
            f"{len(flat):,} tokens do not fill one batch of {options.batch_size} windows of {options.context}",
            where="batch_size",
            fix="give more texts, or choose a smaller batch_size or context",
        )
    epochs = -(-batches * options.batch_size // len(windows))
    keys = np.arange(len(windows), dtype=np.uint64)
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

    return tables(), Ledger.count("texts", reasons) + Ledger.of("windows", read=taken.size, kept=taken.size)


def build_windows(
    path: str, texts: pa.Table, encode: Listed, end: int, options: PackOptions, inputs: dict[str, str | Manifest]
) -> Manifest:
    """Publish the packed batches of `texts` at `path`; `inputs` must name the texts and the tokenizer."""
    with PACK.build(path, params=options, inputs=inputs) as work:
        if not work.done:
            tables, ledger = pack(texts, encode, end, options)
            count = write_batches(work, tables)
            work.publish(ledger, rows=count * options.batch_size, schema=WINDOWS, extra={"batches": count})
        assert work.manifest is not None
        return work.manifest
