"""Signatures to and from datasketch's MinHashLSH, whose users can check and reuse them (affine32, datasketch 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cpt_ray.artifacts import parquet, parts
from cpt_ray.dedup import bands, known, minhash, signatures
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError

if TYPE_CHECKING:
    from datasketch import MinHashLSH


def to_datasketch(path: str, options: DedupOptions) -> MinHashLSH:
    """A MinHashLSH of all documents with words of an index or of a signatures artifact, keyed by doc_id, in memory.

    `options` are those that the signatures were made with; its bands and rows become the LSH's.
    """
    from datasketch import MinHash, MinHashLSH

    if options.scheme != minhash.SIGNATURE_SCHEME:
        raise UserError(
            f"signatures of scheme {options.scheme!r} are not datasketch's",
            where=path,
            fix=f"make them with scheme={minhash.SIGNATURE_SCHEME}",
        )
    names = known.document_parts(path) or parts(path)
    lsh = MinHashLSH(num_perm=options.permutations, params=bands.shape(options))
    drawn = minhash.permutations(options.permutations, options.seed)
    for name in names:
        table = parquet.read_table(name, ["doc_id", "words", "signature"])
        matrix = signatures.signature_matrix(table["signature"])
        if matrix.shape[1] != options.permutations:
            raise UserError(
                f"these signatures have {matrix.shape[1]} values, the options say permutations={options.permutations}",
                where=name,
                fix="pass the options that the signatures were made with",
            )
        for doc_id, words, values in zip(table["doc_id"].to_pylist(), table["words"].to_pylist(), matrix, strict=True):
            if words and doc_id not in lsh:
                sketch = MinHash(
                    seed=options.seed,
                    hashvalues=values,
                    permutations=np.array(drawn),
                    scheme=minhash.SIGNATURE_SCHEME,
                )
                lsh.insert(doc_id, sketch)
    return lsh


def from_datasketch(lsh: MinHashLSH) -> pa.Table:
    """(doc_id string, signature fixed_size_list<uint32>[bands * rows]) of what an LSH holds, sorted by doc_id.

    An LSH keeps the bands only, so the values after bands * rows are lost, and the seed is not known: whoever combines
    them with others has to know that both were made alike. UserError for an LSH of another scheme.
    """
    scheme = getattr(lsh, "_minhash_scheme", None)
    if scheme not in (None, minhash.SIGNATURE_SCHEME):
        raise UserError(
            f"the LSH holds signatures of scheme {scheme!r}, not {minhash.SIGNATURE_SCHEME!r}",
            fix=f"build it from MinHash(scheme={minhash.SIGNATURE_SCHEME!r})",
        )
    ids = sorted(lsh.keys, key=str)
    # A band's key is its values with the bytes swapped, which on a little-endian machine is big-endian uint32.
    rows = [np.frombuffer(b"".join(lsh.keys.get(doc_id)), ">u4").astype(np.uint32) for doc_id in ids]
    flat = pa.array(np.concatenate(rows) if rows else np.zeros(0, np.uint32))
    signature = pa.FixedSizeListArray.from_arrays(flat, lsh.b * lsh.r)
    return pa.table({"doc_id": pa.array([str(doc_id) for doc_id in ids], pa.string()), "signature": signature})
