"""Batch embedding from Python: of a `ray.data.Dataset`, an artifact or any Parquet, to an artifact or a Dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import pyarrow as pa

from cpt_ray.artifacts.shards import actor_pool
from cpt_ray.corpus import Artifact, as_artifact
from cpt_ray.errors import UserError
from cpt_ray.model.weights import read_info
from cpt_ray.serve.embed import embed_table, embedder_of, gpus_wanted, listed, measure_precision, texts_of
from cpt_ray.serve.options import EmbedOptions

if TYPE_CHECKING:
    from ray.data import Dataset

ROWS = 1024
"""Of a batch of a Dataset: enough to sort by length."""


@overload
def embed(rows: Dataset, *, trained: str, options: EmbedOptions | None = None) -> Dataset: ...
@overload
def embed(
    rows: Dataset | Artifact | str, *, trained: str, options: EmbedOptions | None = None, to: str
) -> Artifact: ...
def embed(
    rows: Dataset | Artifact | str, *, trained: str, options: EmbedOptions | None = None, to: str | None = None
) -> Dataset | Artifact:
    """Vectors of a column of a Dataset, an artifact or Parquet files, by the model folder `trained`.

    With `to` the artifact there, as `embed_table` publishes it: it is found again, and goes on after a kill. Without, of a
    Dataset, lazily a Dataset of its rows with a column `vector` more; rows without text are gone."""
    options = options or EmbedOptions()
    if to is not None:
        made = Artifact(to)
        embed_table(made.path, source=as_artifact(rows, made), model=trained, options=options)
        return made
    if not hasattr(rows, "map_batches"):
        raise UserError("the vectors of files are an artifact", where="embed", fix="name a path: to=")
    of_gpus = gpus_wanted(options.device)
    read_info(trained)
    if options.precision == "auto":  # once, or each actor would choose by itself
        options = options.model_copy(update={"precision": measure_precision(trained, of_gpus).precision})
    return rows.map_batches(
        _Embedding,
        fn_constructor_args=(trained, options),
        compute=actor_pool(),
        batch_format="pyarrow",
        batch_size=ROWS,
        zero_copy_batch=True,
        num_cpus=1.0,
        num_gpus=of_gpus,
    )


class _Embedding:
    """An actor that adds vectors to batches."""

    def __init__(self, model: str, options: EmbedOptions) -> None:
        self._model, self._options = model, options

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self._options.text not in batch.column_names:
            there = ", ".join(batch.column_names)
            raise UserError(f"no column {self._options.text!r}", where="embed.text", fix=f"one of {there}")
        if "vector" in batch.column_names:  # Arrow would take a second of that name
            raise UserError("there is a column 'vector' already", where="the Dataset", fix="rename or drop it first")
        texts = texts_of(batch, self._options.text, "the Dataset")
        kept = [row for row, text in enumerate(texts) if text and text.strip()]
        embedder = embedder_of(self._model, self._options.precision, self._options.chunk_tokens, self._options.device)
        vectors = embedder.embed([texts[row] or "" for row in kept], self._options.side)
        return batch.take(pa.array(kept, pa.int64())).append_column("vector", listed(vectors, self._options.dtype))
