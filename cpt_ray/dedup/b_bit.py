"""b-bit MinHash (Li and König 2010): the lowest b bits of every value of a signature, 16 to 128 bytes instead of 512.

For keeping and estimating: the similarity of any two documents comes out of them with a standard error of
sqrt(p (1 - p) / permutations) / (1 - 2^-b), p = s + (1 - s) 2^-b: at s = 0.8 and 128 permutations 0.035 from 8 bits on, 0.053
with one. Not for bands: values of b bits are equal by chance once in 2^b, so buckets would hold strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts, read_manifest, read_table
from cpt_ray.dedup import signatures
from cpt_ray.dedup.kernels import U8
from cpt_ray.errors import UserError

Bits = Literal[1, 2, 4, 8]
# What of the signatures' parameters has nothing to do with their values.
_ELSEWHERE = ("id_column", "text_column", "survivors")


def pack(values: npt.NDArray[np.uint32], bits: Bits) -> U8:
    """[rows, permutations * bits / 8] uint8 of signatures [rows, permutations]: the first value in the lowest bits."""
    low = (values & np.uint32((1 << bits) - 1)).astype(np.uint8).reshape(len(values), -1, 8 // bits)
    packed: U8 = np.bitwise_or.reduce(low << np.arange(0, 8, bits, dtype=np.uint8), axis=2)
    return packed


def similarity(left: U8, right: U8, bits: Bits) -> npt.NDArray[np.float64]:
    """[pairs] float64: estimated Jaccard similarity of packed signatures row by row; below 0 where less than chance."""
    differ = (left ^ right)[:, :, None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8((1 << bits) - 1)
    equal: npt.NDArray[np.float64] = (differ == 0).mean(axis=(1, 2))
    chance = 2.0**-bits
    return (equal - chance) / (1 - chance)


def write_b_bits(path: str, signed: str, bits: Bits) -> Manifest:
    """(doc_id, signature: `bits` of every value) of an artifact of `write_signatures`; null for one without words."""
    manifest = read_manifest(signed)
    permutations = int(manifest.params.get("permutations", 0))
    if not permutations or permutations * bits % 8:
        raise UserError(
            f"{permutations} values of {bits} bits fill no whole bytes",
            where=signed,
            fix="name an artifact of signatures whose permutations are a multiple of 8",
        )
    made = {name: value for name, value in manifest.params.items() if name not in _ELSEWHERE}
    schema = pa.schema([pa.field("doc_id", pa.string()), pa.field("signature", pa.binary(permutations * bits // 8))])
    return PACK.map(
        path,
        params={**made, "bits": bits},
        inputs={"signatures": manifest},
        shards=[{"signatures": name} for name in parts(signed)],
        gives=schema,
        schema=schema,
        bits=bits,
    )


def estimate(left: str, left_ids: Sequence[str], right: str, right_ids: Sequence[str]) -> npt.NDArray[np.float64]:
    """[pairs] float64: estimated similarity of documents of two artifacts of `write_b_bits` (or of one), pair by pair.

    NaN where a document has no words. UserError where the two were made differently, or an id is not there.
    """
    ours, theirs = _made(left), _made(right)
    signatures.check_same(ours, theirs, right)
    a, b = _of(left, left_ids), _of(right, right_ids)
    found = np.full(len(a), np.nan)
    both = np.asarray(pc.and_(a.is_valid(), b.is_valid()))
    x, y = (_matrix(column.filter(pa.array(both))) for column in (a, b))
    found[both] = similarity(x, y, ours["bits"])
    return found


def _pack_shard(shard: Mapping[str, Any], *, schema: pa.Schema, bits: Bits) -> tuple[pa.Table, Ledger]:
    table = parquet.read_table(shard["signatures"], ["doc_id", "words", "signature"])
    packed = pack(signatures.signature_matrix(table["signature"]), bits)
    kind = schema.field("signature").type
    column = pa.FixedSizeBinaryArray.from_buffers(kind, len(packed), [None, pa.py_buffer(packed.tobytes())])
    worded = pc.greater(table["words"], 0)
    column = pc.if_else(worded, pa.chunked_array([column]), pa.scalar(None, kind))
    ledger = Ledger.of("documents", read=table.num_rows, kept=table.num_rows)
    return pa.table([table["doc_id"], column], schema=schema), ledger


PACK = Stage("b-bit-signatures", version=1, unit="documents", run=_pack_shard)


def _made(path: str) -> dict[str, Any]:
    """How the packed signatures at `path` were made."""
    manifest = read_manifest(path)
    if manifest.step != PACK.name:
        raise UserError("these are no b-bit signatures", where=path, fix="make them with write_b_bits")
    return manifest.params


def _of(path: str, ids: Sequence[str]) -> pa.Array:
    """The signatures of these documents, in this order."""
    table = read_table(path)
    at = pc.index_in(pa.array(ids, pa.string()), table["doc_id"].combine_chunks())
    if at.null_count:
        missing = ids[int(np.flatnonzero(np.asarray(at.is_null()))[0])]
        raise UserError(f"no document {missing!r} among these signatures", where=path, fix="check the id")
    return table["signature"].combine_chunks().take(at)


def _matrix(column: pa.Array) -> U8:
    """[rows, bytes] uint8 of a column without nulls."""
    width = column.type.byte_width
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, width)
