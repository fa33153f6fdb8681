"""An index that grows while it is searched: no search fails, each is of one state of the index, and what is new is found."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.errors import UserError
from cpt_ray.nearest import top_k
from cpt_ray.serve import following
from cpt_ray.serve.following import Following, indexes_at
from cpt_ray.serve.http import make_app
from cpt_ray.serve.index import build_index, read_index
from cpt_ray.serve.indexes import Kind
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.serve.indexes.hnsw import Hnsw
from cpt_ray.serve.options import HttpOptions
from pipelines.reads import check
from tests.serve.serve_samples import functions, unit
from tests.serve.toy import Toy, client_of

VECTORS = unit(np.random.default_rng(0).standard_normal((60, 4)))


@pytest.fixture
def add(publish: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Builds the index of the functions a .. b at a path below the folder `nights`."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.0)

    def add(name: str, a: int, b: int, kind: Kind | None = None) -> str:
        flat = pa.array(VECTORS[a:b].reshape(-1))
        table = pa.table({"key": [f"f{i}" for i in range(a, b)], "vector": pa.FixedSizeListArray.from_arrays(flat, 4)})
        embeddings, source = str(tmp_path / f"vectors-{a}-{b}"), str(tmp_path / f"functions-{a}-{b}")
        if not Path(source).exists():
            publish(Path(embeddings).name, table)
            publish(Path(source).name, functions(a, b - a))
        path = tmp_path / "nights" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = kind or Exact(rows_per_part=9)
        build_index(
            str(path), embeddings=embeddings, source=source, key="function_id", columns=["path", "qualname"], kind=kind
        )
        return str(path)

    return add


@pytest.mark.parametrize("kind", [Exact(rows_per_part=9), Hnsw(rows_per_part=9)])
def test_updated_while_it_is_searched(add: Callable[..., str], tmp_path: Path, kind: Kind) -> None:
    """Two nights are added, one is built anew and one is removed, under searches without a pause."""
    add("1/index", 0, 20, kind)
    place = str(tmp_path / "nights")
    states = [(0, 20), (0, 40), (0, 60), (20, 60)]
    want = []
    for a, b in states:
        rows = top_k(np.full((1, 4), 0.5, np.float32), VECTORS[a:b], 5)[1][0] + a
        want.append([f"Class.name_{row}" for row in rows])

    def change() -> None:
        add("2/index", 20, 40, kind)
        add("3", 40, 60, kind)
        shutil.rmtree(tmp_path / "nights" / "3")
        add("3", 40, 60, kind)
        shutil.rmtree(tmp_path / "nights" / "1")

    async def conversation() -> None:
        app = make_app(Toy(), Following(place, read_index), HttpOptions(), name="toy")
        changed: asyncio.Task[None] | None = None
        seen = []
        async with client_of(app) as client:
            while changed is None or not changed.done() or seen[-1] != want[-1]:
                answer = await client.post("/v1/search", json={"query": "a", "k": 5, "map": True})
                assert answer.status_code == 200, answer.text
                seen.append([found["name"] for found in answer.json()["data"]])
                assert len(answer.json()["at"]) == 2
                changed = changed or asyncio.create_task(asyncio.to_thread(change))  # after the first answer
            await changed
            assert (await client.get("/health")).json()["rows"] == 40
            assert (await client.get("/v1/map")).json()["rows"] == 40
        assert seen[0] == want[0]
        assert all(names in want for names in seen)
        app.state.endpoint.close()

    asyncio.run(conversation())


def test_what_does_not_fit_is_said_and_left_out(
    add: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An index of another model, and one that is not whole: the index stays what it was until it can be opened."""
    add("1", 0, 20)
    place = str(tmp_path / "nights")

    def opened(at: str) -> following.Index:
        index = read_index(at)
        if index.rows.num_rows == 50:
            index.check_model("another", "trained=x")
        return index

    found = Following(place, opened)
    with caplog.at_level(logging.INFO, "cpt_ray"):
        add("2", 20, 50)
        assert found.look().rows.num_rows == 20
        assert found.look().rows.num_rows == 20
        assert caplog.text.count("is not taken in: trained=x: the index was made") == 1
        shutil.rmtree(tmp_path / "nights" / "2")
        assert found.look().rows.num_rows == 20
        shutil.rmtree(tmp_path / "nights" / "1")
        assert found.look().rows.num_rows == 20
        assert "there is no index here" in caplog.text
        add("1", 0, 30)
        assert found.look().rows.num_rows == 30
        assert "30 rows are searched now" in caplog.text


def test_what_an_index_is(add: Callable[..., str], tmp_path: Path) -> None:
    """An artifact, or a folder of them; never one that is being built, and no other artifact."""
    first, second = add("b", 0, 20), add("a/index", 20, 40)
    place = str(tmp_path / "nights")
    assert indexes_at(first) == [first]
    assert indexes_at(place) == [second, first]
    shutil.copytree(first, tmp_path / "nights" / "c.building")
    shutil.copytree(tmp_path / "functions-0-20", tmp_path / "nights" / "d")
    assert indexes_at(place) == [second, first]
    assert read_index(place).rows["path"][0].as_py() == "pkg/mod20.py"
    check("index", "index", place)
    (tmp_path / "none").mkdir()
    for nothing in (tmp_path / "none", tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no index here") as caught:
            check("index", "index", str(nothing))
        assert caught.value.where == f"index={nothing}"
