"""Signatures against datasketch, its users' reference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from datasketch.lsh import _optimal_param

from cpt_ray.dedup import bands, minhash, sets


@pytest.mark.parametrize(("count", "seed"), [(128, 1), (16, 7), (100, 42), (256, 2**32 - 1)])
def test_bit_equal_to_datasketch(count: int, seed: int) -> None:
    """The same 32-bit hashes and the same seed give datasketch's hashvalues, whatever the number of hashes."""
    rng = np.random.default_rng(count)
    for size in (1, 2, 3, 4, 5, 127, 1000):
        hashes = rng.integers(0, 1 << 32, size, dtype=np.uint32)
        theirs = MinHash(num_perm=count, seed=seed, scheme="affine32", hashfunc=lambda h: h)
        theirs.update_batch(hashes.tolist())
        ours = minhash.sign_hashes(hashes, count=count, seed=seed)
        assert ours.dtype == theirs.hashvalues.dtype == np.uint32
        assert (ours == theirs.hashvalues).all()


def test_a_text_is_signed_as_datasketch_signs_its_shingle_hashes() -> None:
    """The whole path, text to signature, equals datasketch fed with the upper halves of the shingles' hashes."""
    texts = ["a b c d e f g h", "one two", "", "the same words again and the same words again"]
    column = pa.array(texts)
    found = minhash.sign(column)
    values, lengths = sets.shingle_sets(column, found.shingles)
    for row, part in enumerate(np.split(values, np.cumsum(lengths)[:-1])):
        theirs = MinHash(hashfunc=lambda h: h)
        theirs.update_batch([int(h) >> 32 for h in part])
        assert (found.values[row] == theirs.hashvalues).all()


@pytest.mark.parametrize(("one", "size"), [(False, 400), (True, 400), (True, 20_000)])
def test_estimate_follows_jaccard(one: bool, size: int) -> None:
    """Equal values are as frequent as the shingles two documents share, within 4 standard errors at 1,024 values: for
    both schemes, and where most of the bins of a one-permutation signature are empty."""
    rng = np.random.default_rng(3)
    words = [f"w{n}" for n in range(size)]
    for replaced in (size // 100, size // 20, size // 7):
        other = list(words)
        for at in rng.choice(size, replaced, replace=False):
            other[at] = f"x{at}"
        column = pa.array([" ".join(words), " ".join(other)])
        found = minhash.sign(column, count=1024, one=one)
        values, lengths = sets.shingle_sets(column, found.shingles)
        a, b = (set(p.tolist()) for p in np.split(values, [lengths[0]]))
        truth = len(a & b) / len(a | b)
        estimate = float((found.values[0] == found.values[1]).mean())
        # Empty bins repeat the values of filled ones: with 400 shingles only some 330 bins are independent.
        independent = 1024 if not one or size > 1024 else 330
        assert abs(estimate - truth) < 4 * np.sqrt(truth * (1 - truth) / independent)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("weight", [0.5, 0.9])
def test_bands_and_rows_are_datasketchs(threshold: float, weight: float) -> None:
    assert bands.optimal(threshold, 64, weight) == _optimal_param(threshold, 64, 1 - weight, weight)


def test_band_keys_are_equal_where_bands_are() -> None:
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 3, (500, 12), dtype=np.uint32)
    keys = bands.band_keys(signatures, 4, 3)
    for band in range(4):
        cut = signatures[:, 3 * band : 3 * band + 3]
        same = (cut[:, None] == cut[None]).all(-1)
        assert ((keys[:, None, band] == keys[None, :, band]) == same).all()
    assert not set(keys[:, 0]) & set(keys[:, 1])
