"""Exact search against sorting all scores, whatever the tiles, the type and the ties."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray import nearest
from cpt_ray.artifacts import check_flow, run_flow
from cpt_ray.artifacts.parquet import read_table
from cpt_ray.artifacts.store import parts
from cpt_ray.errors import UserError
from cpt_ray.model.weights import weights_identity
from cpt_ray.nearest import top_k
from cpt_ray.serve.embed import embed_table
from cpt_ray.serve.index import build_index, read_index
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.serve.search import Answer
from pipelines import embed
from pipelines.search import open_index
from tests.serve.serve_samples import functions, unit


def _by_sorting(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All inner products in float64, each summed alone, rounded to float32; sorted by score, then row."""
    q, v = queries.astype(np.float64), vectors.astype(np.float64)
    scores = np.array([[np.einsum("d,d->", a, b) for b in v] for a in q]).astype(np.float32)
    rows = np.array([np.lexsort((np.arange(len(v)), -row))[:k] for row in scores])
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("k", [1, 7, 200, 500])
def test_equals_sorting_all_scores(dtype: type, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores and rows are those of a full sort, for one tile and for many, for k up to all rows and beyond."""
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng.standard_normal((200, 16))).astype(dtype), unit(rng.standard_normal((9, 16)))
    want_scores, want_rows = _by_sorting(queries, vectors, k)
    for tile_scores in (1 << 22, 9 * 13):
        monkeypatch.setattr(nearest, "TILE_SCORES", tile_scores)
        scores, rows = top_k(queries, vectors, k)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(rows, want_rows)
        np.testing.assert_allclose(scores, want_scores, rtol=0, atol=1e-7)


@pytest.mark.parametrize("tile_scores", [1 << 22, 40, 333])
def test_equal_vectors_come_in_the_order_of_their_rows(tile_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many copies of few vectors: within equal scores the smaller row is first, across tiles too."""
    monkeypatch.setattr(nearest, "TILE_SCORES", tile_scores)
    monkeypatch.setattr(nearest, "MANY", 100)  # more ties than this are cut to the exact best on the way
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 5, 3000)
    vectors = unit(rng.standard_normal((5, 48)))[kind]
    query = unit(rng.standard_normal((1, 48)))
    scores, rows = top_k(query, vectors, 900)
    order = np.argsort(-(vectors[[int(np.flatnonzero(kind == i)[0]) for i in range(5)]] @ query[0]))
    want = np.concatenate([np.flatnonzero(kind == i) for i in order])[:900]
    np.testing.assert_array_equal(rows[0], want)
    assert (np.diff(scores[0]) <= 0).all()


def test_near_ties_below_the_precision_of_a_matrix_product() -> None:
    """Vectors that differ in the last bits of a few coordinates are ranked by their true scores."""
    rng = np.random.default_rng(2)
    base = unit(rng.standard_normal((1, 300)))
    vectors = np.nextafter(base, np.inf).repeat(400, axis=0)
    vectors[np.arange(400), np.arange(400) % 300] = base[0, np.arange(400) % 300]
    want = _by_sorting(base, vectors, 50)[1]
    np.testing.assert_array_equal(top_k(base, vectors, 50)[1], want)


def test_what_cannot_be_searched() -> None:
    """Another dimension and a vector that is not finite are errors with advice."""
    vectors = unit(np.ones((3, 4)))
    with pytest.raises(UserError, match="dimension 4"):
        top_k(np.ones((1, 5), np.float32), vectors, 1)
    with pytest.raises(UserError, match="not finite"):
        top_k(np.full((1, 4), np.nan, np.float32), vectors, 1)


def _embeddings(keys: list[str], vectors: np.ndarray) -> pa.Table:
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"key": keys, "vector": listed})


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_published_index_opens_memory_mapped(publish: Callable[..., str], tmp_path, dtype: type) -> None:
    """Vectors of several parts stand in order; the rows that describe them are found by key, not by place."""
    vectors = unit(np.random.default_rng(3).standard_normal((30, 8))).astype(dtype)
    keys = [f"f{i}" for i in range(30)]
    embeddings = publish("embeddings", _embeddings(keys[:20], vectors[:20]), _embeddings(keys[20:], vectors[20:]))
    source = publish("functions", functions(0, 40).take(np.random.default_rng(4).permutation(40)))
    path = str(tmp_path / "index")
    manifest = build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["qualname", "path"])
    assert manifest.rows == 30
    index = read_index(path)
    assert isinstance(index.vectors, np.memmap)
    assert index.vectors.dtype == dtype
    np.testing.assert_array_equal(index.vectors, vectors)
    assert index.rows.column("qualname").to_pylist() == [f"Class.name_{i}" for i in range(30)]
    assert index.search(vectors[17:18].astype(np.float32), 1)[1].tolist() == [[17]]
    again = build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["qualname", "path"])
    assert again.digest == manifest.digest


def test_an_index_refuses_what_does_not_fit(publish: Callable[..., str], tmp_path) -> None:
    """A vector without a row in the source, and NaN, stop the build."""
    source = publish("functions", functions(0, 3))
    vectors = unit(np.eye(3))
    stray = publish("stray", _embeddings(["f0", "f1", "nobody"], vectors))
    with pytest.raises(UserError, match="1 vectors have no row"):
        build_index(str(tmp_path / "a"), embeddings=stray, source=source, key="function_id", columns=["path"])
    vectors[1, 1] = np.nan
    broken = publish("broken", _embeddings(["f0", "f1", "f2"], vectors))
    with pytest.raises(UserError, match="not finite"):
        build_index(str(tmp_path / "b"), embeddings=broken, source=source, key="function_id", columns=["path"])


def test_another_model_of_equal_width_is_refused(publish: Callable[..., str], model_folder: str, tmp_path) -> None:
    """Its scores would be noise: the error names both digests, and an index that does not say is no better."""
    source = publish("functions", functions(0, 3))
    embeddings = str(tmp_path / "embeddings")
    embed_table(embeddings, source=source, model=model_folder, options=EmbedOptions())
    build_index(str(tmp_path / "index"), embeddings=embeddings, source=source, key="function_id", columns=["path"])
    own, other = weights_identity(model_folder), str(tmp_path / "other")
    opened, _ = open_index(str(tmp_path), None, model_folder, "cpu")
    assert opened.model == own
    shutil.copytree(model_folder, other)
    Path(other, "config.json").write_text(Path(other, "config.json").read_text() + "\n")
    with pytest.raises(UserError) as refused:
        open_index(str(tmp_path), None, other, "cpu")
    assert own in str(refused.value)
    assert weights_identity(other) in str(refused.value)
    with pytest.raises(UserError, match="earlier version"):
        dataclasses.replace(opened, model="").check_model(own, "trained=somewhere")


def test_a_column_that_the_source_lacks_is_an_error(publish: Callable[..., str], model_folder: str, tmp_path) -> None:
    """Before anything is embedded; without `columns` an index carries those that say what and where its rows are."""
    source = publish("functions", functions(0, 3))
    with pytest.raises(UserError, match="'pathh'"):
        check_flow(embed.flow(str(tmp_path / "out"), source, model_folder, EmbedOptions(), ("path", "pathh")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="'pathh'"):
        build_index(str(tmp_path / "o"), embeddings=source, source=source, key="function_id", columns=["pathh"])
    pages = pa.table({"doc_id": ["a"], "url": ["http://h/a"], "title": ["A"], "text": ["some words"], "quality": [0.5]})
    options = EmbedOptions(text="text", key="doc_id")
    run_flow(embed.flow(str(tmp_path / "pages"), publish("docs", pages), model_folder, options))
    answer = Answer(1.0, read_index(str(tmp_path / "pages" / "index")).rows.to_pylist()[0])
    assert (answer.name, answer.where, answer.summary) == ("A", "http://h/a", "some words")
    pair = Answer(1.0, {"x": "what it does", "y": "def f(): pass", "path": "a.py", "line": 3})
    assert (pair.name, pair.where, pair.summary) == ("what it does", "a.py:3", "def f(): pass")
    with pytest.raises(UserError, match="'nope'"):
        read_table(parts(source)[0], ["nope"])
