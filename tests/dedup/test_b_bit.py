"""The lowest bits of signatures, against datasketch's bBitMinHash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from datasketch.b_bit_minhash import bBitMinHash

from cpt_ray.artifacts import parquet, read_table
from cpt_ray.dedup.b_bit import Bits, estimate, pack, similarity, write_b_bits
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.dedup.signatures import write_signatures
from cpt_ray.errors import UserError
from tests.dedup.dedup_corpus import corpus, jaccard

ALL: tuple[Bits, ...] = (1, 2, 4, 8)


@pytest.mark.parametrize("bits", ALL)
def test_bits_and_estimates_are_datasketchs(bits: Bits) -> None:
    """Unpacked, the bits are bBitMinHash's values; the estimate is its estimate."""
    rng = np.random.default_rng(bits)
    a = rng.integers(0, 1 << 32, (5, 128), dtype=np.uint32)
    b = np.where(rng.random((5, 128)) < 0.7, a, rng.integers(0, 1 << 32, (5, 128), dtype=np.uint32))
    ours = similarity(pack(a, bits), pack(b, bits), bits)
    for row in range(5):
        left, right = (bBitMinHash(MinHash(hashvalues=m[row], scheme="affine32"), bits) for m in (a, b))
        unpacked = np.unpackbits(pack(a, bits)[row], bitorder="little").reshape(-1, bits)
        assert (unpacked @ (1 << np.arange(bits)) == left.hashvalues).all()
        assert ours[row] == pytest.approx(left.jaccard(right), abs=1e-12)


def signed(tmp_path: Path, name: str, options: DedupOptions) -> str:
    docs = corpus(originals=20)
    names = [str(tmp_path / f"{name}-docs.parquet")]
    table = pa.table({"doc_id": list(docs), "text": list(docs.values())})
    parquet.write_table(names[0], table, row_group_size=30)
    write_signatures(str(tmp_path / name), names, options=options)
    return str(tmp_path / name)


def test_the_similarity_is_estimated_within_its_stated_error(tmp_path: Path) -> None:
    """Pairs of known Jaccard similarity: the mean error is none, its spread is the formula's, for every b."""
    source, docs = signed(tmp_path, "s", DedupOptions(permutations=256)), corpus(originals=20)
    left, right = [f"{n:03d}-base" for n in range(20)], [f"{n:03d}-heavy" for n in range(20)]
    exact = np.array([jaccard(docs[a], docs[b]) for a, b in zip(left, right, strict=True)])
    assert 0.1 < exact.mean() < 0.6
    for bits in ALL:
        path = str(tmp_path / f"b{bits}")
        write_b_bits(path, source, bits)
        assert read_table(path)["signature"].type == pa.binary(256 * bits // 8)
        p = exact + (1 - exact) * 2.0**-bits
        error = np.sqrt(p * (1 - p) / 256) / (1 - 2.0**-bits)
        z = (estimate(path, left, path, right) - exact) / error
        assert abs(z.mean()) < 4 / np.sqrt(20)
        assert 0.5 < z.std() < 1.6
    assert np.isnan(estimate(path, ["odd-empty"], path, ["odd-blank"])).all()


def test_other_makings_are_refused(tmp_path: Path) -> None:
    source, other = signed(tmp_path, "s", DedupOptions()), signed(tmp_path, "o", DedupOptions(seed=2))
    for name, origin, bits in (("a", source, 8), ("b", source, 4), ("c", other, 8)):
        write_b_bits(str(tmp_path / name), origin, bits)
    a, b, c = (str(tmp_path / name) for name in "abc")
    with pytest.raises(UserError, match="bits=4 cannot be combined with bits=8"):
        estimate(a, ["000-base"], b, ["000-base"])
    with pytest.raises(UserError, match="seed=2 cannot be combined with seed=1"):
        estimate(a, ["000-base"], c, ["000-base"])
    with pytest.raises(UserError, match="no document 'nope'"):
        estimate(a, ["nope"], a, ["000-base"])
    with pytest.raises(UserError, match="no b-bit signatures"):
        estimate(source, ["000-base"], a, ["000-base"])
    odd = signed(tmp_path, "odd", DedupOptions(permutations=126, bands=14, rows=9))
    with pytest.raises(UserError, match="126 values of 1 bits"):
        write_b_bits(str(tmp_path / "d"), odd, 1)
