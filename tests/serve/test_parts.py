"""An index in parts: found as in one matrix, the same bytes for any number of workers and after any kill."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.artifacts import parquet, read_manifest
from cpt_ray.artifacts.parquet import read_slice, slices_of
from cpt_ray.artifacts.store import read_table
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.nearest import top_k
from cpt_ray.serve import index as built
from cpt_ray.serve.embed import embed_table
from cpt_ray.serve.exact import ExactIndex
from cpt_ray.serve.index import build_index, read_index
from cpt_ray.serve.indexes import Kind
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.serve.indexes.hnsw import Hnsw
from cpt_ray.serve.joined import Joined, join
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.serve.plane import plane_of
from tests.serve.serve_samples import functions, unit

KINDS: list[Kind] = [Exact(), *(Hnsw(values=values) for values in ("int8", "float16", "float32", "binary"))]


def listed(keys: list[str], vectors: np.ndarray) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"key": keys, "vector": flat})


def files(folder: str) -> dict[str, str]:
    """Of all that is published, but for the manifest, which says how long it took."""
    found = (path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("piece", [1 << 16, 3])
@pytest.mark.parametrize("rows_per_part", [7, 10, 25, 100])
def test_parts_are_found_as_one_matrix(
    publish: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_part: int, piece: int
) -> None:
    """However vectors and rows are cut: scores, rows, their order and ties are those of all vectors in one matrix."""
    monkeypatch.setattr(built, "PIECE", piece)
    rng = np.random.default_rng(rows_per_part)
    vectors = unit(rng.standard_normal((12, 16)))[rng.integers(0, 12, 40)]  # many ties
    keys = [f"f{i}" for i in range(40)]
    cut = [listed(keys[a:b], vectors[a:b]) for a, b in ((0, 13), (13, 13), (13, 31), (31, 40))]
    rows = functions(0, 40).take(rng.permutation(40))
    source = publish("functions", *(rows.slice(at, 11) for at in (0, 11, 22, 33)))
    path, kind = str(tmp_path / "index"), Exact(rows_per_part=rows_per_part)
    embeddings = publish("embeddings", *cut)
    made = build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["qualname"], kind=kind)
    assert made.rows == 40
    assert made.columns == {"function_id": "string", "qualname": "string"}
    index = read_index(path)
    assert isinstance(index, Joined if rows_per_part < 40 else ExactIndex)
    assert index.rows["function_id"].to_pylist() == keys
    queries = unit(rng.standard_normal((5, 16)))
    for k in (1, 9, 40, 50):
        want_scores, want_rows = top_k(queries, vectors, k)
        scores, rows = index.search(queries, k)
        assert scores.tobytes() == want_scores.tobytes()
        np.testing.assert_array_equal(rows, want_rows)
    some = rng.integers(0, 40, 17)
    np.testing.assert_array_equal(index.vectors_of(some), vectors[some])
    assert plane_of(index) is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Exact(rows_per_part=9), Hnsw(rows_per_part=9)])
def test_workers_do_not_show(publish: Callable[..., str], model_folder: str, tmp_path: Path, kind: Kind) -> None:
    """In this process, and in one, two and four of Ray's; blank texts have no vector, and rows stand by their own."""
    table = functions(0, 50)
    code = [None if i % 11 == 3 else text for i, text in enumerate(table["code"].to_pylist())]
    source = publish("functions", table.set_column(table.schema.get_field_index("code"), "code", [code]))
    embeddings = str(tmp_path / "embeddings")
    embed_table(embeddings, source=source, model=model_folder, options=EmbedOptions(rows_per_shard=4, precision="fp32"))

    def made(name: str) -> dict[str, str]:
        path = str(tmp_path / name)
        build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["path"], kind=kind)
        return files(path)

    found = [made("here")]
    for workers in (1, 2, 4):
        with connect(ClusterOptions(cpus=workers)):
            found.append(made(f"workers-{workers}"))
    assert found[0] == found[1] == found[2] == found[3]
    assert (
        read_index(str(tmp_path / "here")).rows["function_id"].to_pylist() == read_table(embeddings)["key"].to_pylist()
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_part_may_be_the_last(
    publish: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Killed before, in and after each part: the same command ends with the same bytes, and parts that stood are not made
    again."""
    kind = kind.model_copy(update={"rows_per_part": 9})
    vectors = unit(np.random.default_rng(0).standard_normal((40, 8)))
    source = publish("functions", functions(0, 40))
    embeddings = publish("embeddings", listed([f"f{i}" for i in range(40)], vectors))

    def build(path: str) -> None:
        build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["path"], kind=kind)

    undisturbed, path = str(tmp_path / "undisturbed"), str(tmp_path / "killed")
    build(undisturbed)
    real, calls = built._file, 0

    def dying(folder: str, name: str) -> built.File:
        nonlocal calls
        calls += 1
        if calls in dies:
            Path(folder, name).write_bytes(b"half")
            raise KeyboardInterrupt
        return real(folder, name)

    monkeypatch.setattr(built, "_file", dying)
    of_a_part = len(files(undisturbed)) // 5
    for last in range(1, len(files(undisturbed)) + 1):
        calls, dies = 0, {last}
        shutil.rmtree(path, ignore_errors=True)
        with pytest.raises(KeyboardInterrupt):
            build(path)
        assert not Path(path).exists()
        calls, dies = 0, set()
        build(path)
        assert files(path) == files(undisturbed)
        stood = (last - 1) // of_a_part
        assert calls == len(files(undisturbed)) - stood * of_a_part


def test_rows_are_read_where_the_vectors_were_made_from(
    publish: Callable[..., str], model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a source that was embedded, the range of each piece; only vectors of another artifact have all of it looked
    through."""
    source = publish("functions", functions(0, 30), functions(30, 30))
    embeddings = str(tmp_path / "embeddings")
    embed_table(embeddings, source=source, model=model_folder, options=EmbedOptions(rows_per_shard=8))

    def all_of_it(source: str, columns: list[str]) -> Iterator[pa.Table]:
        yield pytest.fail("all of the source was read")

    monkeypatch.setattr(built, "_batches", all_of_it)
    path = str(tmp_path / "index")
    kind = Exact(rows_per_part=13)
    build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["path"], kind=kind)
    assert read_index(path).rows["function_id"].to_pylist() == [f"f{i}" for i in range(60)]


def test_indexes_of_two_artifacts_are_one(publish: Callable[..., str], tmp_path: Path) -> None:
    """As if they had been built together; of two models they are refused."""
    vectors = unit(np.random.default_rng(0).standard_normal((30, 8)))
    opened = []
    for name, a, b, columns in (("old", 0, 20, ["path"]), ("new", 20, 30, ["path", "qualname"])):
        embeddings = publish(f"{name}-vectors", listed([f"f{i}" for i in range(a, b)], vectors[a:b]))
        path, source = str(tmp_path / name), publish(f"{name}-functions", functions(a, b - a))
        build_index(path, embeddings=embeddings, source=source, key="function_id", columns=columns)
        opened.append(read_index(path))
    both = join(opened)
    scores, rows = both.search(vectors[24:26], 30)
    want_scores, want_rows = top_k(vectors[24:26], vectors, 30)
    assert scores.tobytes() == want_scores.tobytes()
    np.testing.assert_array_equal(rows, want_rows)
    assert both.rows["qualname"].to_pylist() == [None] * 20 + [f"Class.name_{i}" for i in range(20, 30)]
    with pytest.raises(UserError, match="different models"):
        join([ExactIndex(functions(0, 1), "a", vectors[:1]), ExactIndex(functions(0, 1), "b", vectors[:1])])


def test_what_each_part_measured_is_kept_together(publish: Callable[..., str], tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((40, 8)))
    source = publish("functions", functions(0, 40))
    embeddings = publish("embeddings", listed([f"f{i}" for i in range(40)], vectors))
    kind, path = Hnsw(rows_per_part=13), str(tmp_path / "index")
    build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["path"], kind=kind)
    assert read_manifest(path).extra["measured"] == {"recall_at_10": 1.0, "queries": 40}


@pytest.mark.parametrize("row_group", [4, 7, 1000])
def test_a_slice_is_those_rows(tmp_path: Path, row_group: int) -> None:
    """Whatever the row groups of the file, and at their edges."""
    table = functions(0, 40)
    parquet.write_table(str(tmp_path / "a.parquet"), table, row_group_size=row_group)
    for rows in (1, 7, 9, 40, 50):
        pieces = slices_of([str(tmp_path / "a.parquet")], rows)
        read = pa.concat_tables(read_slice(piece, ["path", "start_line"]) for piece in pieces)
        assert read.equals(table.select(["path", "start_line"]))
        assert max(piece["rows"] for piece in pieces) <= rows


BUILDS = """
import sys
from pydantic import TypeAdapter
from cpt_ray.kinds import one_of
from cpt_ray.serve.index import build_index
path, embeddings, source, said = sys.argv[1:]
kind = TypeAdapter(one_of("cpt_ray.serve.indexes")).validate_json(said)
print("ready", flush=True)
build_index(path, embeddings=embeddings, source=source, key="function_id", columns=["path"], kind=kind)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_killed_while_it_is_built(publish: Callable[..., str], tmp_path: Path, kind: Kind) -> None:
    """SIGKILL at random moments of a build of twelve parts, six times: what stands in the end are the undisturbed bytes."""
    rng = np.random.default_rng(1)
    count = 12_000 if isinstance(kind, Hnsw) else 120_000
    kind = kind.model_copy(update={"rows_per_part": count // 12})
    vectors = unit(rng.standard_normal((count, 48)))
    source = publish("functions", functions(0, count))
    embeddings = publish("embeddings", listed([f"f{i}" for i in range(count)], vectors))

    def begin(path: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", BUILDS, path, embeddings, source, kind.model_dump_json()]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    undisturbed, path = str(tmp_path / "undisturbed"), str(tmp_path / "killed")
    started = time.monotonic()
    assert begin(undisturbed).wait() == 0
    took, killed = time.monotonic() - started, 0
    for _ in range(6):
        process = begin(path)
        time.sleep(rng.uniform(0, took / 4))
        killed += process.poll() is None
        process.kill()
        process.wait()
        if Path(path).exists():
            shutil.rmtree(path)
    assert begin(path).wait() == 0
    assert killed >= 3
    assert files(path) == files(undisturbed)
    found = read_index(path)
    scores, rows = found.search(vectors[:5], 3)
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)
