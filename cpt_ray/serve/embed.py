"""Batch embedding: one text column of a published table becomes an artifact of vectors, shard by shard.

A shard is a range of rows of one Parquet part. A worker loads the model once and keeps it for its later shards;
within a shard texts are sorted by length and run in chunks of equal token budget (model/embedder.py).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
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
from cpt_ray.model.weights import INFO, ModelInfo, config_of, existing, weights_identity
from cpt_ray.serve.options import EmbedOptions

CUT = "texts cut to the model's limit"
"""A unit of the ledger, beside `texts` and `vectors`."""


def embed_table(path: str, *, source: str, model: str, options: EmbedOptions) -> Manifest:
    """Publish at `path` the vectors of the artifact `source` by the model folder `model`: columns `key` str, `vector`
    fixed-size list (D,), L2-normalised, in the order of the source. Empty texts are dropped as `empty_text`; of the others
    the ledger counts those longer than the model takes under CUT."""
    info, of_gpus = read_info(model), _gpus(options.device)
    inputs: dict[str, str | Manifest] = {"source": read_manifest(source), "model": weights_identity(model)}

    def measure() -> Choice:
        shape = shape_of(config_of(existing(model), 0), info)
        return remotely(measured, shape, "cuda" if of_gpus else "cpu", 1, gpus=of_gpus)

    precision, chosen = settle(
        options.precision,
        EMBED,
        path,
        params=lambda precision: {**options.result(), "precision": precision},
        inputs=inputs,
        measure=measure,
    )
    options = options.model_copy(update={"precision": precision})
    return dataclasses.replace(EMBED, needs=Needs(gpus=of_gpus)).map(
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


def embed_shard(shard: Mapping[str, Any], *, model: str, options: EmbedOptions) -> tuple[pa.Table, Ledger]:
    """Vectors of the rows `start` .. `start + rows` of the Parquet file `part`."""
    table = read_slice(shard, [options.key, options.text])
    texts = table.column(options.text).to_pylist()
    kept = [row for row, text in enumerate(texts) if text and text.strip()]
    embedder = _embedder(model, options.precision, options.chunk_tokens, options.device)
    wanted = [texts[row] for row in kept]
    vectors = embedder.embed(wanted, options.side)
    ledger = Ledger.count("texts", ["empty_text" if not (text and text.strip()) else None for text in texts])
    cut = int((embedder.lengths(wanted) > embedder.limit(options.side)).sum())
    ledger += Ledger.of(CUT, read=cut, kept=cut)
    ledger += Ledger.of("vectors", read=len(kept), kept=len(kept))
    return _table(table.column(options.key).take(pa.array(kept, pa.int64())), vectors, options.dtype), ledger


def _gpus(device: Device) -> float:
    """What one task asks of Ray: a GPU where it is to be used and the session has one."""
    return 0.0 if device == "cpu" else min(gpus(), 1.0)


def read_info(model: str) -> ModelInfo:
    """What a model folder says of itself."""
    name = Path(model, INFO)
    if not name.exists():
        raise UserError(
            f"this is not a trained model: it has no {INFO}", where=model, fix="give a folder that training wrote"
        )
    return ModelInfo.model_validate_json(name.read_text())


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
def _embedder(model: str, precision: Inference, chunk_tokens: int, device: str) -> Embedder:
    """Loaded once per process; a Ray worker runs many shards."""
    return Embedder(model, precision=precision, chunk_tokens=chunk_tokens, device=device)


def _table(keys: pa.ChunkedArray, vectors: np.ndarray, dtype: str) -> pa.Table:
    made = schema(vectors.shape[1], dtype)
    flat = pa.array(vectors.astype(dtype, copy=False).reshape(-1))
    listed = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table([keys.combine_chunks().cast(pa.string()), listed], schema=made)


EMBED = Stage("embeddings", version=2, unit="texts", run=embed_shard)
