"""Signatures as Parquet beside their source: one part per row group, one row per document, in the source's order."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts, read_manifest
from cpt_ray.artifacts.adopted import PARQUET, find_parquet, is_artifact
from cpt_ray.artifacts.columns import whole
from cpt_ray.artifacts.places import locate
from cpt_ray.dedup import kernels, minhash, sets, shingles, survivors
from cpt_ray.dedup.kernels import I64, U64
from cpt_ray.dedup.options import MEASURED, DedupOptions
from cpt_ray.dedup.unicode_words import unicodedata
from cpt_ray.errors import UserError, first_line

SAMPLE = "sample"
"""The column of the sampled shingles."""


def scheme(options: DedupOptions) -> dict[str, Any]:
    """What decides the values of a signature: two artifacts can be combined only where all of this is equal."""
    return {
        "scheme": options.scheme,
        "shingles": shingles.SCHEME,
        "shingle": options.shingle,
        "ngram": options.ngram,
        "permutations": options.permutations,
        "seed": options.seed,
        "unicode": unicodedata.unidata_version,
        **({"sample": options.sample} if options.measure == "containment" else {}),
    }


def check_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Raise UserError naming both values of the first parameter in which two sets of signatures differ."""
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            raise UserError(
                f"signatures made with {name}={theirs.get(name)!r} cannot be combined with {name}={ours.get(name)!r}",
                where=where,
                fix=f"use the same {name}, or make the signatures again",
            )


def mode(options: DedupOptions) -> int:
    return kernels.WORDS if options.shingle == "word" else kernels.CHARACTERS


def parquet_files(source: str) -> str | list[str]:
    """What `source_files` takes of a path: an artifact stays, all else becomes the Parquet files there (`find_parquet`)."""
    return source if is_artifact(source) else find_parquet(source)


def source_files(documents: str | Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(Parquet files, input digests) of an artifact's path or of a list of files."""
    if isinstance(documents, str) and not documents.endswith(PARQUET):
        return parts(documents), {"documents": read_manifest(documents).digest}
    files = [documents] if isinstance(documents, str) else list(documents)
    return files, {f"file {i}": _digest(name) for i, name in enumerate(files)}


def schema_of(files: Sequence[str], id_column: str, text_column: str, options: DedupOptions) -> pa.Schema:
    """Columns of the signatures: doc_id, the rule's columns as by_<name>, content hash, counts, the signature, and for
    containment a sample of the shingles."""
    given = source_schema(files)
    for name in (id_column, text_column):
        if name not in given.names:
            raise UserError(f"no column {name!r}", where=files[0], fix=f"choose one of {', '.join(given.names)}")
    rule = []
    for preference in options.survivors:
        if preference.column in MEASURED:
            rule.append(pa.field(survivors.PREFIX + preference.column, pa.int64()))
        elif given.names.count(preference.column) == 1:
            kind = given.field(preference.column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not survivors.has_order(kind):
                raise UserError(
                    f"the survivor rule names a column {preference.column!r} of {kind}, which has no order",
                    where=files[0],
                    fix="use one of numbers, times or strings",
                )
            rule.append(pa.field(survivors.PREFIX + preference.column, kind))
        else:
            raise UserError(
                f"the survivor rule names a column {preference.column!r} that the documents lack",
                where=files[0],
                fix=f"use {', '.join(MEASURED)} or one of {', '.join(given.names)}",
            )
    return pa.schema(
        [
            pa.field("doc_id", pa.string()),
            *rule,
            pa.field("content_0", pa.uint64()),
            pa.field("content_1", pa.uint64()),
            pa.field("words", pa.uint32()),
            pa.field("shingle_count", pa.uint32()),
            pa.field("flags", pa.uint8()),
            pa.field("signature", pa.list_(pa.field("item", pa.uint32()), options.permutations)),
            *([pa.field(SAMPLE, pa.large_list(pa.uint64()))] if options.measure == "containment" else []),
        ]
    )


def sign_table(table: pa.Table, schema: pa.Schema, id_column: str, text_column: str, options: DedupOptions) -> pa.Table:
    """Signatures of a table of documents, in `schema`; a null id or text is an empty string."""
    text = table.column(text_column)
    found = minhash.sign(
        text,
        ngram=options.ngram,
        mode=mode(options),
        count=options.permutations,
        seed=options.seed,
        one=options.scheme == minhash.ONE_PERMUTATION,
    )
    columns: dict[str, Any] = {
        "doc_id": pc.fill_null(_as(table, id_column, pa.string()), ""),
        "content_0": pa.array(found.content[:, 0]),
        "content_1": pa.array(found.content[:, 1]),
        "words": pa.array(found.words),
        "shingle_count": pa.array(found.shingles),
        "flags": pa.array(found.flags),
        "signature": pa.FixedSizeListArray.from_arrays(
            pa.array(found.values.reshape(-1)), type=schema.field("signature").type
        ),
    }
    if SAMPLE in schema.names:
        columns[SAMPLE] = _sample(text, found.shingles, options)
    for preference in options.survivors:
        name = survivors.PREFIX + preference.column
        if preference.column == "length":
            columns[name] = pa.array(shingles.StringBuffer(text).lengths())
        elif preference.column == "words":
            columns[name] = pa.array(found.words.astype(np.int64))
        else:
            columns[name] = _as(table, preference.column, schema.field(name).type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _as(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """A column in another type; UserError where its values are none of it."""
    try:
        return table.column(name).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"the column {name!r} of {table.column(name).type} is not to be had as {kind}: {first_line(error)}",
            fix="name another column, or give files of the same columns",
        ) from error


def _sample(text: pa.ChunkedArray, counts: npt.NDArray[np.uint32], options: DedupOptions) -> pa.LargeListArray:
    """[rows] lists of uint64: of each document's shingles those whose hash is a multiple of `sample`, each once, sorted.

    Which they are follows from the shingle alone: what a document shares with a longer one is in both samples or in none.
    """
    values, lengths = sets.shingle_sets(text, counts, ngram=options.ngram, mode=mode(options))
    chosen = values % np.uint64(options.sample) == 0
    of_row = np.repeat(np.arange(len(lengths)), lengths)[chosen]
    offsets = np.r_[0, np.cumsum(np.bincount(of_row, minlength=len(lengths)))].astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values[chosen]))


def sampled(table: pa.Table) -> tuple[U64, I64]:
    """(shingles, rows): the sample of every row of a table of signatures, one shingle after the other."""
    column = whole(table[SAMPLE])
    lengths = np.asarray(column.value_lengths()).astype(np.int64)
    return np.asarray(column.flatten()), np.repeat(np.arange(len(lengths)), lengths)


def source_schema(files: Sequence[str]) -> pa.Schema:
    """The columns of the source, by its first file."""
    if not files:
        raise UserError("no Parquet files given", fix="name an artifact or at least one file")
    return parquet.read_schema(files[0])


def sign_shard(
    shard: Mapping[str, Any], *, schema: pa.Schema, id_column: str, text_column: str, options: DedupOptions
) -> tuple[pa.Table, Ledger]:
    """Signatures of one row group of the source."""
    columns = [id_column, text_column, *options.columns]
    made = [
        sign_table(batch, schema, id_column, text_column, options) for batch in parquet.read_batches(shard, columns)
    ]
    table = pa.concat_tables([schema.empty_table(), *made])
    return table, Ledger.of("documents", read=table.num_rows, kept=table.num_rows)


SIGN = Stage("signatures", version=1, unit="documents", run=sign_shard)


def write_signatures(
    path: str,
    documents: str | Sequence[str],
    *,
    id_column: str = "doc_id",
    text_column: str = "text",
    options: DedupOptions,
) -> Manifest:
    """The signatures of `documents` as an artifact; its manifest's params say how they were made."""
    files, inputs = source_files(documents)
    schema = schema_of(files, id_column, text_column, options)
    params = {
        **scheme(options),
        "id_column": id_column,
        "text_column": text_column,
        "survivors": [p.column for p in options.survivors],
    }
    return SIGN.map(
        path,
        params=params,
        inputs=inputs,
        shards=parquet.shards_of(files),
        gives=schema,
        schema=schema,
        id_column=id_column,
        text_column=text_column,
        options=options,
    )


def signature_matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """[rows, permutations] uint32 of a signature column, without a copy where it is one chunk."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width = array.type.list_size
    return np.asarray(array.flatten()).reshape(-1, width)


def _digest(name: str) -> str:
    fs, target = locate(name)
    with fs.open(target, "rb") as source:
        return f"{posixpath.basename(name)}:{hashlib.file_digest(source, xxhash.xxh3_128).hexdigest()}"
