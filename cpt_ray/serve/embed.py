"""Batch embedding: one text column of a table becomes an artifact of vectors, shard by shard.

A shard is a range of rows of one Parquet part. Shards are run by Ray actors, each of which loads the model once; within
a shard texts are sorted by length and run in chunks of equal token budget (model/embedder.py). From Python the
table may be a `ray.data.Dataset`, and so may what comes out (`embed`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.parquet import read_schema, read_slice, slices_of
from cpt_ray.artifacts.stage import Needs, Stage
from cpt_ray.artifacts.store import parts, read_manifest
from cpt_ray.cluster import gpus, remotely
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder, shape_of
from cpt_ray.model.options import Device, Inference
from cpt_ray.model.precision import Choice, measured, settle
from cpt_ray.model.weights import config_of, existing, read_info, weights_identity
from cpt_ray.serve.options import EmbedOptions

CUT = "texts cut to the model's limit"
"""A unit of the ledger, beside `texts` and `vectors`."""
STRINGS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def embed_table(path: str, *, source: str, model: str, options: EmbedOptions) -> Manifest:
    """Publish at `path` the vectors of the artifact `source` by the model folder `model`: columns `key` str, `vector`
    fixed-size list (D,), L2-normalised, in the order of the source. Empty texts are dropped as `empty_text`, rows without a
    key as `no_key`; of the others the ledger counts those longer than the model takes under CUT."""
    info, of_gpus = read_info(model), gpus_wanted(options.device)
    inputs: dict[str, str | Manifest] = {"source": read_manifest(source), "model": weights_identity(model)}

    def measure() -> Choice:
        return measure_precision(model, of_gpus)

    precision, chosen = settle(
        options.precision,
        EMBED,
        path,
        params=lambda precision: {**options.result(), "precision": precision},
        inputs=inputs,
        measure=measure,
    )
    options = options.model_copy(update={"precision": precision})
    return dataclasses.replace(EMBED, needs=Needs(gpus=of_gpus, actors=True)).map(
        path,
        params=options,
        inputs=inputs,
        shards=_shards(source, options),
        gives=schema(info.embedding_dimension, options.dtype),
        extra=chosen,
        model=model,
        options=options,
    )


def schema(dimension: int, dtype: str) -> pa.Schema:
    """Of the vectors' table."""
    kind = pa.float16() if dtype == "float16" else pa.float32()
    return pa.schema([("key", pa.string()), ("vector", pa.list_(kind, dimension))])


def measure_precision(model: str, of_gpus: float) -> Choice:
    """The faster precision, where the model will run."""
    shape = shape_of(config_of(existing(model), 0), read_info(model))
    return remotely(measured, shape, "cuda" if of_gpus else "cpu", 1, gpus=of_gpus)


def embed_shard(shard: Mapping[str, Any], *, model: str, options: EmbedOptions) -> tuple[pa.Table, Ledger]:
    """Vectors of the rows `start` .. `start + rows` of the Parquet file `part`."""
    table = read_slice(shard, [options.key, options.text])
    texts, keys = texts_of(table, options.text, shard["part"]), _keys(table, options.key, shard["part"])
    reasons = [
        "empty_text" if not (text and text.strip()) else "no_key" if key is None else None
        for text, key in zip(texts, keys.to_pylist(), strict=True)
    ]
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    embedder = embedder_of(model, options.precision, options.chunk_tokens, options.device)
    limit = embedder.limit(options.side)
    ids = embedder.token_ids(
        [texts[row] or "" for row in kept], limit + 1
    )  # of a longer text enough to know that it is
    vectors = embedder.embed_ids(embedder.wrap(ids, options.side))
    ledger = Ledger.count("texts", reasons)
    cut = sum(len(row) > limit for row in ids)
    ledger += Ledger.of(CUT, read=cut, kept=cut)
    ledger += Ledger.of("vectors", read=len(kept), kept=len(kept))
    column = listed(vectors, options.dtype)
    made = schema(vectors.shape[1], options.dtype)
    return pa.table([keys.take(pa.array(kept, pa.int64())), column], schema=made), ledger


def texts_of(table: pa.Table, column: str, where: str) -> list[str | None]:
    """The column as texts. UserError for one of something else."""
    kind = table.schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_null(kind) or any(known(kind) for known in STRINGS)):
        raise UserError(
            f"the column {column!r} is {kind}, not text", where=where, fix="choose one of texts (embed.text)"
        )
    texts: list[str | None] = table.column(column).to_pylist()
    return texts


def _keys(table: pa.Table, column: str, where: str) -> pa.Array:
    """The column as text. UserError for what has no text."""
    try:
        return table.column(column).cast(pa.string()).combine_chunks()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        kind = table.schema.field(column).type
        raise UserError(
            f"the column {column!r} is {kind}, which has no text that could be a key",
            where=where,
            fix="choose one of numbers or texts (embed.key); the column of the texts itself will do",
        ) from error


def gpus_wanted(device: Device) -> float:
    """What one task asks of Ray: a GPU where it is to be used and the session has one."""
    return 0.0 if device == "cpu" else min(gpus(), 1.0)


def shards_of_source(source: str, rows_per_shard: int) -> list[dict[str, Any]]:
    """What the parts of the vectors of the artifact `source` are made of, one by one."""
    return slices_of(parts(source), rows_per_shard)


def _shards(source: str, options: EmbedOptions) -> list[dict[str, Any]]:
    for part in parts(source):
        there = read_schema(part).names
        for column in (options.key, options.text):
            if column not in there:
                raise UserError(f"no column {column!r}", where=part, fix=f"one of {', '.join(there)}")
    return shards_of_source(source, options.rows_per_shard)


@functools.lru_cache(maxsize=2)
def embedder_of(model: str, precision: Inference, chunk_tokens: int, device: str) -> Embedder:
    """Loaded once per process; a Ray worker runs many shards."""
    return Embedder(model, precision=precision, chunk_tokens=chunk_tokens, device=device)


def listed(vectors: np.ndarray, dtype: str) -> pa.Array:
    """Vectors (n, D) as a column."""
    flat = pa.array(vectors.astype(dtype, copy=False).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


EMBED = Stage("embeddings", version=3, unit="texts", run=embed_shard)
