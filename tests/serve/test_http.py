"""The endpoint over a real socket: answers, limits and refusals."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from cpt_ray.errors import UserError
from cpt_ray.serve.exact import ExactIndex
from cpt_ray.serve.http import make_app, serve
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.options import HttpOptions
from tests.serve.serve_samples import functions, unit

INDEX = ExactIndex(functions(0, 20), "", unit(np.random.default_rng(0).standard_normal((20, 4))))


class Toy:
    """A token is a character, ten of them are read, and the vector says the side."""

    dimension = 4

    def limit(self, side: str) -> int:
        return 10

    def embed(self, texts: list, side: str) -> np.ndarray:
        return np.full((len(texts), 4), 0.5 if side == "x" else -0.5, np.float32)

    def lengths(self, texts: list) -> np.ndarray:
        return np.array([len(text) for text in texts], np.int64)


def ask(
    steps: Callable[[TestClient], Any], *, index: Index | None = INDEX, model: Toy | None = None, **options: int
) -> Any:
    """Run one conversation with a fresh server."""

    async def conversation() -> Any:
        app = make_app(model or Toy(), index, HttpOptions(**options), name="toy")
        async with TestClient(TestServer(app)) as client:
            return await steps(client)

    return asyncio.run(conversation())


def test_health_embed_and_search() -> None:
    """The three calls give what they promise."""

    async def steps(client: TestClient) -> None:
        for path in ("/healthz", "/health"):
            assert await (await client.get(path)).json() == {"status": "ok", "dimension": 4, "rows": 20}
        got = await (await client.post("/embed", json={"texts": ["a", "b"], "side": "y"})).json()
        assert got == {"dimension": 4, "vectors": [[-0.5] * 4] * 2}
        assert (await (await client.post("/embed", json={"texts": []})).json())["vectors"] == []
        found = await (await client.get("/search", params={"q": "dates", "k": "3"})).json()
        want = np.argsort(-(INDEX.vectors @ np.full(4, 0.5)))[:3]
        assert [answer["name"] for answer in found["answers"]] == [f"Class.name_{i}" for i in want]
        assert found["answers"][0]["where"] == f"pkg/mod{want[0]}.py:{want[0] + 1}"

    ask(steps)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/embed", b"not json", 400, "JSON"),
        ("POST", "/embed", b"\xff\xfe", 400, ""),
        ("POST", "/embed", b'{"texts": "one"}', 400, "texts"),
        ("POST", "/embed", b'{"texts": [1]}', 400, "texts.0"),
        ("POST", "/embed", b'{"texts": ["a"], "side": "z"}', 400, "side"),
        ("POST", "/embed", b'{"texts": ["a"], "sides": "x"}', 400, "sides"),
        ("POST", "/embed", b'{"texts": ["a", "b", "c", "d"]}', 413, "at most 3"),
        ("POST", "/embed", b'{"texts": ["' + b"a" * 60 + b'"]}', 413, "at most 50"),
        ("POST", "/embed", b" " * 5000, 413, "Large"),
        ("GET", "/search?q=", b"", 400, "empty"),
        ("GET", "/search?q=a&k=0", b"", 400, "from 1 to 5"),
        ("GET", "/search?q=a&k=six", b"", 400, "from 1 to 5"),
        ("GET", "/search?q=" + "a" * 60, b"", 413, "at most 50"),
        ("GET", "/nowhere", b"", 404, "Not Found"),
        ("GET", "/embed", b"", 405, "Not Allowed"),
    ],
)
def test_refusals_are_json(method: str, path: str, body: bytes, status: int, word: str) -> None:
    """What is wrong or too large is refused with its status and a reason."""

    async def steps(client: TestClient) -> None:
        answer = await client.request(method, path, data=body or None)
        assert answer.status == status
        assert word in (await answer.json())["error"]

    ask(steps, max_texts=3, max_characters=50, max_body=4096, max_answers=5)


def test_without_an_index_there_is_no_search() -> None:
    """The endpoint says so and goes on embedding."""

    async def steps(client: TestClient) -> None:
        assert (await client.get("/search?q=a")).status == 404
        assert (await client.post("/embed", json={"texts": ["a"]})).status == 200

    ask(steps, index=None)


def test_a_full_queue_turns_away_and_health_still_answers() -> None:
    """While the model is busy and one request waits, a third gets 503; /healthz is not held up; the others are
    answered."""
    busy, free = threading.Event(), threading.Event()

    class Slow(Toy):
        def embed(self, texts: list, side: str) -> np.ndarray:
            busy.set()
            assert free.wait(60)
            return super().embed(texts, side)

    async def steps(client: TestClient) -> None:
        first = asyncio.create_task(client.post("/embed", json={"texts": ["a"]}))
        assert await asyncio.to_thread(busy.wait, 60)
        # Which of the two comes first is chance; the one behind it is the third.
        others = [asyncio.create_task(client.post("/embed", json={"texts": [text]})) for text in "bc"]
        (refused,), (second,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert (await refused).status == 503
        assert int((await refused).headers["Retry-After"]) > 0
        assert (await client.get("/healthz")).status == 200
        free.set()
        assert [(await task).status for task in (first, second)] == [200, 200]

    ask(steps, model=Slow(), max_waiting=2)


def test_a_text_that_was_cut_is_named() -> None:
    """The answer says which texts are longer than the model takes; a whole one is not mentioned."""

    async def steps(client: TestClient) -> None:
        got = await (await client.post("/embed", json={"texts": ["a" * 11, "b" * 10, "c" * 12]})).json()
        assert got["truncated"] == [0, 2]
        assert (await (await client.get("/search", params={"q": "q" * 11})).json())["truncated"] == [0]
        assert "truncated" not in await (await client.get("/search", params={"q": "q"})).json()

    ask(steps)


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("charset", "body", "status"),
    [("no-such", b"{}", 415), ("base64", b"{}", 415), ("utf-8", b"\xff", 400), ("ascii", "é".encode(), 400)],
)
def test_a_charset_that_nobody_knows_is_refused_in_json(path: str, charset: str, body: bytes, status: int) -> None:
    """Never a 500, never plain text."""

    async def steps(client: TestClient) -> None:
        answer = await client.post(path, data=body, headers={"Content-Type": f"application/json; charset={charset}"})
        assert answer.status == status
        assert (await answer.json())["error"]

    ask(steps)


def test_a_port_in_use_is_the_users_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot listen"):
            serve(Toy(), None, HttpOptions(port=taken.getsockname()[1]), name="toy")
