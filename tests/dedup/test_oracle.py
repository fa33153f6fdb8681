"""5,000 real documents against all pairs compared exactly: recall as the bands promise, precision 1."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from cpt_ray.artifacts import parquet, parts, read_table
from cpt_ray.dedup import bands, minhash
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.options import DedupOptions
from tests.dedup.dedup_corpus import edited, real_pieces, shingles

THRESHOLD = 0.7
OPTIONS = DedupOptions(threshold=THRESHOLD)


def planted() -> list[str]:
    """2,500 real pieces, and an edited copy of each: from untouched but for one word to hardly recognisable."""
    rng, texts = random.Random(11), []
    for piece in real_pieces(2500, 900):
        units = piece.split()
        copy = edited(rng, units, min(rng.randrange(1, 14), len(units)))
        texts += [piece, " ".join(copy)]
    return texts


def all_pairs(texts: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(i, j, exact Jaccard) of every pair that shares a shingle, i < j; from Python tuples, no hash involved."""
    number: dict[tuple[str, ...], int] = {}
    columns, starts = [], [0]
    for text in texts:
        columns += [number.setdefault(s, len(number)) for s in shingles(text)]
        starts.append(len(columns))
    shape = (len(texts), len(number))
    matrix = csr_array((np.ones(len(columns), np.int32), np.array(columns), np.array(starts)), shape=shape)
    shared = (matrix @ matrix.T).tocoo()
    upper = shared.row < shared.col
    i, j, both = shared.row[upper], shared.col[upper], shared.data[upper]
    size = np.diff(starts)
    return i.astype(np.int64), j.astype(np.int64), both / (size[i] + size[j] - both)


@pytest.fixture(scope="module")
def oracle() -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    texts = planted()
    assert len(texts) == 5000
    return (texts, *all_pairs(texts))


def test_recall_follows_the_curve(oracle: tuple) -> None:
    """In every bin of similarity, the share of pairs in a common bucket is 1 - (1 - s^r)^b within 4 standard errors."""
    texts, i, j, similarity = oracle
    count, rows = bands.shape(OPTIONS)
    keys = bands.band_keys(minhash.sign(pa.array(texts)).values, count, rows)
    together = (keys[i] == keys[j]).any(axis=1)
    # Planted pairs only: the pairs of one real document with many like it are not independent of each other.
    pair = (i % 2 == 0) & (j == i + 1)
    bins = 0
    for low in np.arange(0.3, 1.0, 0.05):
        chosen = pair & (similarity >= low) & (similarity < low + 0.05)
        expected = bands.probability(similarity[chosen], count, rows)
        if len(expected) < 30:
            continue
        bins += 1
        error = np.sqrt(float((expected * (1 - expected)).sum())) / len(expected)
        assert abs(together[chosen].mean() - expected.mean()) <= 4 * error + 1 / len(expected), low
    assert bins >= 8


def write(path: Path, texts: list[str], rows: Sequence[int] = range(5000)) -> str:
    """These rows of the corpus as a Parquet file."""
    table = pa.table({"doc_id": [f"{n:04d}" for n in rows], "text": [texts[n] for n in rows]})
    parquet.write_table(str(path), table, row_group_size=500)
    return str(path)


def test_precision_is_one_and_no_found_pair_is_kept_twice(oracle: tuple, tmp_path: Path) -> None:
    """Every removal stands the exact comparison; of a planted pair in a common bucket, similar enough, one goes."""
    texts, i, j, similarity = oracle
    out = str(tmp_path / "clusters")
    manifest = deduplicate(out, [write(tmp_path / "d.parquet", texts)], options=OPTIONS)
    exact = {(int(a), int(b)): float(s) for a, b, s in zip(i, j, similarity, strict=True)}
    kept, removed = set(), 0
    for row in read_table(out).to_pylist():
        if row["kept"]:
            kept.add(int(row["doc_id"]))
            continue
        removed += 1
        pair = tuple(sorted((int(row["doc_id"]), int(row["matched_id"]))))
        assert exact[pair] >= THRESHOLD
        assert row["similarity"] == pytest.approx(exact[pair], abs=1e-6)
    assert removed > 500
    count, rows = manifest.extra["bands"], manifest.extra["rows"]
    keys = bands.band_keys(minhash.sign(pa.array(texts)).values, count, rows)
    both_kept = [
        (a, b)
        for (a, b), s in exact.items()
        if a % 2 == 0 and b == a + 1 and s >= THRESHOLD and (keys[a] == keys[b]).any() and {a, b} <= kept
    ]
    assert not both_kept


def test_the_order_and_the_number_of_crawls_do_not_matter(oracle: tuple, tmp_path: Path) -> None:
    """Shuffled, the table is equal byte by byte; half of the documents and then the other half keep the same ones."""
    texts = oracle[0]
    order = list(range(5000))
    random.Random(4).shuffle(order)
    one, shuffled, old, new, index = (str(tmp_path / name) for name in ("one", "shuffled", "old", "new", "index"))
    deduplicate(one, [write(tmp_path / "d.parquet", texts)], options=OPTIONS)
    deduplicate(shuffled, [write(tmp_path / "s.parquet", texts, order)], options=OPTIONS)
    assert Path(parts(one)[0]).read_bytes() == Path(parts(shuffled)[0]).read_bytes()
    first, second = (write(tmp_path / f"{n}.parquet", texts, order[n::2]) for n in (0, 1))
    deduplicate(old, [first], options=OPTIONS)
    write_index(index, old, [first])
    deduplicate(new, [second], options=OPTIONS, index=index)
    rows = {row["doc_id"]: row for out in (old, new) for row in read_table(out).to_pylist()}
    whole = {row["doc_id"]: row for row in read_table(one).to_pylist()}
    assert {name for name, row in rows.items() if row["kept"]} == {name for name, row in whole.items() if row["kept"]}
    assert rows == whole


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_number_of_workers_does_not_matter(oracle: tuple, tmp_path: Path) -> None:
    """With 1, 2 and 4 workers of Ray the table of the 5,000 is the one made without Ray, byte by byte."""
    import ray

    name = write(tmp_path / "d.parquet", oracle[0])
    deduplicate(str(tmp_path / "alone"), [name], options=OPTIONS)
    alone = Path(parts(str(tmp_path / "alone"))[0]).read_bytes()
    for workers in (1, 2, 4):
        ray.init(
            "local", num_cpus=workers, include_dashboard=False, logging_level="ERROR", object_store_memory=100 << 20
        )
        try:
            deduplicate(str(tmp_path / f"{workers}"), [name], options=OPTIONS)
        finally:
            ray.shutdown()
        assert Path(parts(str(tmp_path / f"{workers}"))[0]).read_bytes() == alone
