"""Out to datasketch and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH

from cpt_ray.artifacts import parquet, read_table
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.datasketch_lsh import from_datasketch, to_datasketch
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.dedup.signatures import signature_matrix, write_signatures
from cpt_ray.errors import UserError
from tests.dedup.dedup_corpus import corpus


def test_export_and_import_are_inverse(tmp_path: Path) -> None:
    """datasketch finds in the exported LSH what was indexed, and its bands come back as the signatures' values."""
    docs, options = corpus(originals=12), DedupOptions()
    names = [str(tmp_path / "d.parquet")]
    parquet.write_table(names[0], pa.table({"doc_id": list(docs), "text": list(docs.values())}))
    write_signatures(str(tmp_path / "s"), names, options=options)
    lsh = to_datasketch(str(tmp_path / "s"), options)
    table = read_table(str(tmp_path / "s"))
    by_id = dict(zip(table["doc_id"].to_pylist(), signature_matrix(table["signature"]), strict=True))
    query = MinHash(hashvalues=by_id["003-base"], scheme="affine32")
    assert {"003-base", "003-case", "003-light"} <= set(lsh.query(query))
    assert "odd-empty" not in lsh
    back = from_datasketch(lsh)
    for doc_id, values in zip(back["doc_id"].to_pylist(), signature_matrix(back["signature"]), strict=True):
        assert (values == by_id[doc_id][: 14 * 9]).all()
    deduplicate(str(tmp_path / "c"), names, options=options)
    write_index(str(tmp_path / "index"), str(tmp_path / "c"), names)
    assert set(to_datasketch(str(tmp_path / "index"), options).keys) == set(lsh.keys)


def test_other_makings_are_refused(tmp_path: Path) -> None:
    lsh = MinHashLSH(num_perm=16, params=(4, 4))
    lsh.insert("a", MinHash(num_perm=16, scheme="legacy", hashvalues=np.arange(16, dtype=np.uint64)))
    with pytest.raises(UserError, match="legacy"):
        from_datasketch(lsh)
    names = [str(tmp_path / "d.parquet")]
    parquet.write_table(names[0], pa.table({"doc_id": ["a"], "text": ["some words"]}))
    write_signatures(str(tmp_path / "s"), names, options=DedupOptions())
    with pytest.raises(UserError, match="permutations=64"):
        to_datasketch(str(tmp_path / "s"), DedupOptions(permutations=64))
