"""Graphs of neighbours beside exact search: what is found is scored as exact search scores it, and most of it is found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.artifacts import read_manifest
from cpt_ray.errors import UserError
from cpt_ray.nearest import top_k
from cpt_ray.serve.graph import GraphIndex
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.indexes.hnsw import Hnsw
from cpt_ray.serve.joined import join
from tests.serve.serve_samples import functions, unit

ROWS = 3000


def near_a_surface(rows: int, seed: int) -> np.ndarray:
    """(rows, 48) of length 1, as vectors of texts lie."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    return unit(
        rng.standard_normal((rows, 12)) @ fixed.standard_normal((12, 48)) + 0.1 * rng.standard_normal((rows, 48))
    )


def made(folder: Path, kind: Hnsw, vectors: np.ndarray) -> tuple[Index, list[dict]]:
    """An index of parts of `kind.rows_per_part` vectors, and what each of them measured."""
    parts, measured = [], []
    for start in range(0, len(vectors), kind.rows_per_part):
        part, at = vectors[start : start + kind.rows_per_part], folder / f"{start:05d}"
        at.mkdir(parents=True)
        np.save(at / "vectors.npy", part)
        measured.append(kind.build(str(at)))
        parts.append(kind.open(str(at), functions(start, len(part)), ""))
    return join(parts), measured


@pytest.mark.parametrize("values", ["int8", "float16", "float32", "binary"])
@pytest.mark.parametrize("rows_per_part", [ROWS, 1100])
def test_most_of_the_nearest_are_found_and_scored_exactly(tmp_path: Path, values: str, rows_per_part: int) -> None:
    """In one part or in three; the recall that is kept is of this kind too."""
    vectors, queries = near_a_surface(ROWS, 1), near_a_surface(64, 2)
    breadth = 256 if values == "binary" else 64
    index, measured = made(tmp_path / "a", Hnsw(values=values, breadth=breadth, rows_per_part=rows_per_part), vectors)
    assert len(measured) == -(-ROWS // rows_per_part)
    scores, rows = index.search(queries, 10)
    true_scores, true_rows = top_k(queries, vectors, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, true_rows, strict=True)]) > 0.95
    assert min(part["recall_at_10"] for part in measured) > 0.95
    of = {(i, row): score for i in range(64) for row, score in zip(true_rows[i], true_scores[i], strict=True)}
    assert all(of.get((i, row), scores[i, j]) == scores[i, j] for i in range(64) for j, row in enumerate(rows[i]))
    assert (np.diff(scores, axis=1) <= 0).all()
    for one in range(3):
        np.testing.assert_array_equal(index.search(queries[one : one + 1], 10)[1][0], rows[one])


def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    vectors = near_a_surface(ROWS, 1)
    digests = set()
    for name in "ab":
        made(tmp_path / name, Hnsw(rows_per_part=1100), vectors)
        files = (file for file in sorted((tmp_path / name).rglob("*")) if file.is_file())
        digests.add(tuple(hashlib.md5(file.read_bytes()).hexdigest() for file in files))
    assert len(digests) == 1


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_vectors_are_all_found(tmp_path: Path, rows: int) -> None:
    """However many are asked for, in however many parts."""
    vectors = near_a_surface(rows, 1)
    index, _ = made(tmp_path / "a", Hnsw(rows_per_part=2), vectors)
    for k in (1, 3, 20):
        for asked in (near_a_surface(1, 2), near_a_surface(5, 2)):
            np.testing.assert_array_equal(index.search(asked, k)[1], top_k(asked, vectors, k)[1])


def test_more_answers_than_breadth_are_given(tmp_path: Path) -> None:
    vectors = near_a_surface(500, 1)
    index, _ = made(tmp_path / "a", Hnsw(breadth=10), vectors)
    rows = index.search(near_a_surface(4, 2), 100)[1]
    assert all(len(set(row)) == 100 for row in rows.tolist())


def test_a_collapsed_model_has_answers_too(tmp_path: Path) -> None:
    """All vectors equal: as many answers as are asked for, each once."""
    vectors = np.repeat(near_a_surface(1, 1), 400, axis=0)
    index, _ = made(tmp_path / "a", Hnsw(), vectors)
    scores, rows = index.search(vectors[:2], 20)
    assert all(len(set(row)) == 20 for row in rows.tolist())
    np.testing.assert_allclose(scores, 1, atol=1e-5)


def test_what_exact_search_refuses_is_refused(tmp_path: Path) -> None:
    index, _ = made(tmp_path / "a", Hnsw(), near_a_surface(20, 1))
    with pytest.raises(UserError, match="do not fit"):
        index.search(np.ones((1, 5), np.float32), 1)
    with pytest.raises(UserError, match="not finite"):
        index.search(np.full((1, 48), np.nan, np.float32), 1)


def test_a_graph_that_is_gone_is_said(tmp_path: Path) -> None:
    """Its rows would be missing from all answers without a word."""
    index, _ = made(tmp_path / "a", Hnsw(rows_per_part=100), near_a_surface(300, 1))
    (tmp_path / "a" / "00100" / "graph.usearch").unlink()
    with pytest.raises(UserError, match="0 of 100 vectors"):
        index.search(near_a_surface(1, 2), 1)


def test_recall_stands_in_the_manifest(tmp_path: Path, publish: Callable[..., str]) -> None:
    """Built by `embed`'s flow as any kind, half precision too; what was measured is kept, and the index opens as its kind."""
    import pyarrow as pa

    from cpt_ray.serve.index import build_index, read_index

    source, vectors = publish("functions", functions(0, 300)), near_a_surface(300, 1).astype(np.float16)
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 48)
    embeddings = publish("embeddings", pa.table({"key": [f"f{i}" for i in range(300)], "vector": listed}))
    out = str(tmp_path / "index")
    build_index(out, embeddings=embeddings, source=source, key="function_id", columns=["path"], kind=Hnsw())
    manifest = read_manifest(out)
    assert manifest.extra["measured"]["recall_at_10"] > 0.9
    assert manifest.extra["index"]["kind"] == "hnsw"
    opened = read_index(out)
    assert isinstance(opened, GraphIndex)
    assert opened.search(vectors[5:6].astype(np.float32), 1)[1].tolist() == [[5]]
