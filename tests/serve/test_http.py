"""The endpoint: answers, limits and refusals."""

import asyncio
import gzip
import json
import re
import socket
import threading

import httpx2
import numpy as np
import pytest

from cpt_ray.errors import UserError
from cpt_ray.serve.exact import ExactIndex
from cpt_ray.serve.http import API_KEY, make_app
from cpt_ray.serve.listen import bound, server
from cpt_ray.serve.options import HttpOptions
from tests.serve.serve_samples import functions, unit
from tests.serve.toy import Toy, ask

INDEX = ExactIndex(functions(0, 20), "", unit(np.random.default_rng(0).standard_normal((20, 4))))


def test_health_embed_and_search() -> None:
    """The three calls give what they promise."""

    async def steps(client: httpx2.AsyncClient) -> None:
        for path in ("/healthz", "/health"):
            assert (await client.get(path)).json() == {"status": "ok", "dimension": 4, "rows": 20}
        got = (await client.post("/embed", json={"texts": ["a", "b"], "side": "y"})).json()
        assert got == {"dimension": 4, "vectors": [[-0.5] * 4] * 2}
        assert (await client.post("/embed", json={"texts": []})).json()["vectors"] == []
        found = (await client.get("/search", params={"q": "dates", "k": "3"})).json()
        want = np.argsort(-(INDEX.vectors @ np.full(4, 0.5)))[:3]
        assert [answer["name"] for answer in found["answers"]] == [f"Class.name_{i}" for i in want]
        assert found["answers"][0]["where"] == f"pkg/mod{want[0]}.py:{want[0] + 1}"
        found = (await client.post("/v1/search", json={"query": "dates", "k": 3})).json()
        assert [answer["path"] for answer in found["data"]] == [f"pkg/mod{i}.py" for i in want]
        assert [(answer["line"], answer["end_line"]) for answer in found["data"]] == [(i + 1, i + 9) for i in want]
        assert [answer["index"] for answer in found["data"]] == [0, 1, 2]
        assert found["usage"] == {"prompt_tokens": 5, "total_tokens": 5}

    ask(steps, INDEX)


def test_similarity_is_of_each_with_each() -> None:
    """Queries by the one side, documents by the other."""

    async def steps(client: httpx2.AsyncClient) -> None:
        got = (await client.post("/v1/similarity", json={"queries": "a", "documents": ["b", "c"]})).json()
        assert got["data"] == [{"object": "similarity", "index": 0, "scores": [-1.0, -1.0]}]
        assert got["usage"]["total_tokens"] == 3
        wrong = await client.post("/v1/similarity", json={"queries": [], "documents": ["b"]})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "queries")

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
        ("POST", "/embed", b" " * 5000, 413, "large"),
        ("GET", "/search?q=", b"", 400, "empty"),
        ("GET", "/search?q=a&k=0", b"", 400, "from 1 to 5"),
        ("GET", "/search?q=a&k=six", b"", 400, "from 1 to 5"),
        ("GET", "/search?q=" + "a" * 60, b"", 413, "at most 50"),
        ("GET", "/nowhere", b"", 404, "Not Found"),
        ("GET", "/embed", b"", 405, "Not Allowed"),
        ("POST", "/v1/search", b'{"query": "a", "k": 6}', 400, "from 1 to 5"),
        ("POST", "/v1/search", b'{"query": "a", "k": 0}', 400, "from 1 to 5"),
        ("POST", "/v1/search", b'{"query": " "}', 400, "empty"),
        ("POST", "/v1/search", b'{"query": "a", "model": "other"}', 404, "other"),
        ("POST", "/v1/embeddings", b'{"input": "a", "model": "toy-query", "input_type": "passage"}', 422, "toy-query"),
        ("POST", "/v1/embeddings", b" " * 5000, 413, "large"),
        ("POST", "/v1/nothing", b"", 404, "Not Found"),
    ],
)
def test_refusals_are_json(method: str, path: str, body: bytes, status: int, word: str) -> None:
    """What is wrong or too large is refused with its status and a reason."""

    async def steps(client: httpx2.AsyncClient) -> None:
        answer = await client.request(method, path, content=body or None)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert word in (error["message"] if path.startswith("/v1/") else error)

    ask(steps, INDEX, max_texts=3, max_characters=50, max_body=4096, max_answers=5)


def test_what_a_client_must_do_otherwise_is_said() -> None:
    """Which methods there are (RFC 9110, 15.5.6), and that a compressed body is not read."""

    async def steps(client: httpx2.AsyncClient) -> None:
        for method, path, allowed in [("GET", "/v1/embeddings", {"POST"}), ("POST", "/v1/models", {"GET", "HEAD"})]:
            answer = await client.request(method, path)
            assert answer.status_code == 405
            assert set(answer.headers["allow"].split(", ")) == allowed
        body = gzip.compress(b'{"input": "a", "model": "toy"}')
        for packed, status in [("gzip", 415), ("br", 415), ("GZIP, deflate", 415), ("identity", 400), ("", 400)]:
            answer = await client.post("/v1/embeddings", content=body, headers={"content-encoding": packed})
            assert answer.status_code == status
            assert answer.json()["error"]["message"]

    ask(steps)


def test_without_an_index_there_is_no_search() -> None:
    """The endpoint says so and goes on embedding."""

    async def steps(client: httpx2.AsyncClient) -> None:
        assert (await client.get("/search?q=a")).status_code == 404
        assert (await client.post("/v1/search", json={"query": "a"})).status_code == 404
        assert (await client.post("/embed", json={"texts": ["a"]})).status_code == 200

    ask(steps)


class Slow(Toy):
    """Says when a batch begins, and ends it when it is let."""

    def __init__(self) -> None:
        self.busy, self.free, self.batches = threading.Event(), threading.Event(), []

    def embed_ids(self, sequences: list) -> np.ndarray:
        self.batches.append([len(row) - 1 for row in sequences])
        self.busy.set()
        assert self.free.wait(60)
        return super().embed_ids(sequences)


def test_a_full_queue_turns_away_and_health_still_answers() -> None:
    """While two requests run or wait, a third gets 429 with Retry-After; /healthz is not held up; the others are answered."""
    slow = Slow()

    async def steps(client: httpx2.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/embed", json={"texts": ["a"]}))
        assert await asyncio.to_thread(slow.busy.wait, 60)
        # Which of the two comes first is chance; the one behind it is the third.
        others = [asyncio.create_task(client.post("/embed", json={"texts": [text]})) for text in "bc"]
        (refused,), (second,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert (await refused).status_code == 429
        assert 1 <= int((await refused).headers["Retry-After"]) <= 60
        assert (await client.get("/healthz")).status_code == 200
        assert "cpt_ray_waiting_requests 2.0" in (await client.get("/metrics")).text
        slow.free.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]

    ask(steps, model=slow, max_waiting=2)


def test_what_waits_shares_a_batch_and_takes_turns() -> None:
    """A short request behind a long one is in the next batch, not in the last; a batch ends with its tokens."""
    slow = Slow()

    async def steps(client: httpx2.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/embed", json={"texts": ["a"]}))
        assert await asyncio.to_thread(slow.busy.wait, 60)
        long = asyncio.create_task(client.post("/embed", json={"texts": ["bbb"] * 6}))
        await waiting(client, 2)
        short = asyncio.create_task(client.post("/embed", json={"texts": ["cc"]}))
        await waiting(client, 3)
        slow.free.set()
        assert [len((await task).json()["vectors"]) for task in (first, long, short)] == [1, 6, 1]
        assert slow.batches == [[1], [3, 2, 3], [3, 3, 3], [3]]

    async def waiting(client: httpx2.AsyncClient, count: int) -> None:
        """Until so many are in the queue: a request's tokens are counted when it waits."""
        app = client._transport.app
        while app.state.endpoint.batcher._requests < count or not app.state.endpoint.batcher.settled:
            await asyncio.sleep(0)

    ask(steps, model=slow, batch_tokens=11)


def test_who_goes_away_leaves_the_queue() -> None:
    """The texts of a client that does not wait are never run; the one behind it is answered."""
    slow = Slow()

    async def conversation() -> None:
        app = make_app(slow, None, HttpOptions(), name="toy")
        batcher = app.state.endpoint.batcher
        first = asyncio.create_task(batcher.embed(["a"], "y"))
        assert await asyncio.to_thread(slow.busy.wait, 60)
        gone = asyncio.create_task(batcher.embed(["bb"], "y"))
        while not batcher.settled or batcher.waiting < 2:
            await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting == 1
        behind = asyncio.create_task(batcher.embed(["ccc"], "y"))
        slow.free.set()
        await asyncio.gather(first, behind)
        assert slow.batches == [[1], [3]]
        app.state.endpoint.close()

    asyncio.run(conversation())


def test_a_text_that_was_cut_is_named() -> None:
    """The answer says which texts are longer than the model takes; a whole one is not mentioned."""

    async def steps(client: httpx2.AsyncClient) -> None:
        got = (await client.post("/embed", json={"texts": ["a" * 11, "b" * 10, "c" * 12]})).json()
        assert got["truncated"] == [0, 2]
        assert (await client.get("/search", params={"q": "q" * 11})).json()["truncated"] == [0]
        assert "truncated" not in (await client.get("/search", params={"q": "q"})).json()

    ask(steps, INDEX)


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("charset", "body", "status"),
    [
        *[("no-such", b"{}", 415), ("base64", b"{}", 415), ("punycode", b"{}", 415), ("unicode_escape", b"{}", 415)],
        *[("utf-8", b"\xff", 400), ("ascii", "é".encode(), 400)],
    ],
)
def test_a_charset_that_nobody_knows_is_refused_in_json(path: str, charset: str, body: bytes, status: int) -> None:
    """Never a 500, never plain text."""

    async def steps(client: httpx2.AsyncClient) -> None:
        headers = {"Content-Type": f"application/json; charset={charset}"}
        answer = await client.post(path, content=body, headers=headers)
        assert answer.status_code == status
        assert answer.json()["error"]

    ask(steps)


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def slowly() -> object:
        yield b'{"input": '
        await asyncio.sleep(60)

    async def steps(client: httpx2.AsyncClient) -> None:
        assert (await client.post("/v1/embeddings", content=slowly())).status_code == 408

    ask(steps, body_seconds=0.05)


@pytest.mark.parametrize("key", ["sécret", "sécret\n", " sécret "])
def test_the_key_is_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Of all that tells about the model or the index; a wrong one is a 401 in the API's shape. A file of secrets ends its key
    with an end of line, which is none of it."""
    monkeypatch.setenv(API_KEY, key)

    async def steps(client: httpx2.AsyncClient) -> None:
        for path in ("/v1/models", "/search?q=a"):
            assert (await client.get(path)).status_code == 401
        for given in ("Bearer wrong", "Basic s", "s", "Bearer"):
            wrong = await client.get("/v1/models", headers={"Authorization": given})
            assert wrong.status_code == 401
            assert wrong.json()["error"]["code"] == "invalid_api_key"
            assert wrong.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": "Bearer sécret".encode()}
        assert (await client.get("/v1/models", headers=right)).status_code == 200
        for path in ("/health", "/metrics", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/openapi.json")).json()["security"] == [{"key": []}]

    ask(steps, INDEX)


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_an_empty_key_is_no_key_that_was_forgotten(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A variable that is set to nothing, as from a secret that is not there, would open the server to everybody."""
    monkeypatch.setenv(API_KEY, key)
    with pytest.raises(UserError, match="empty") as caught:
        make_app(Toy(), None, HttpOptions())
    assert caught.value.where == API_KEY


def test_a_fault_is_answered_and_logged_without_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    """The number in the answer is in the log; the text is in neither."""

    class Broken(Toy):
        def embed_ids(self, sequences: list) -> np.ndarray:
            raise RuntimeError("SECRET text")

    async def steps(client: httpx2.AsyncClient) -> None:
        answer = await client.post("/v1/embeddings", json={"input": "SECRET text", "model": "toy"})
        assert answer.status_code == 500
        number = re.search("[0-9a-f]{32}", answer.json()["error"]["message"])
        assert number is not None
        assert number[0] in caplog.text
        assert "RuntimeError" in caplog.text
        assert "SECRET" not in caplog.text + answer.text

    ask(steps, model=Broken())


def test_metrics_count_by_route_and_never_name_what_was_asked() -> None:
    async def steps(client: httpx2.AsyncClient) -> None:
        await client.post("/embed", json={"texts": ["a" * 12, "bb"]})
        await client.get("/v1/models/toy-query")
        await client.get("/secret-path")
        shown = (await client.get("/metrics")).text
        for line in [
            'cpt_ray_requests_total{route="/embed",status="200"} 1.0',
            'cpt_ray_requests_total{route="/v1/models/{model:path}",status="200"} 1.0',
            'cpt_ray_requests_total{route="other",status="404"} 1.0',
            *("cpt_ray_texts_total 2.0", "cpt_ray_tokens_total 12.0", "cpt_ray_texts_cut_total 1.0"),
            "cpt_ray_batch_tokens_count 1.0",
        ]:
            assert line in shown.splitlines()
        assert "secret" not in shown

    ask(steps)


def test_the_description_names_every_route() -> None:
    async def steps(client: httpx2.AsyncClient) -> None:
        made = (await client.get("/openapi.json")).json()
        assert {"/v1/embeddings", "/v1/models", "/v1/models/{model}", "/v1/search", "/search"} <= set(made["paths"])
        wanted = made["paths"]["/v1/embeddings"]["post"]
        name = wanted["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert made["components"]["schemas"][name]["required"] == ["input", "model"]
        assert {"400", "401", "404", "413", "422", "429", "503"} <= set(wanted["responses"])
        for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(made)):
            assert reference in made["components"]["schemas"]

    ask(steps)


def test_a_port_in_use_is_the_users_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot listen"):
            bound("127.0.0.1", taken.getsockname()[1])


def test_told_to_stop_it_answers_what_it_was_asked() -> None:
    """Over a real socket: the request under way is answered, and a new connection is not taken."""
    slow = Slow()

    async def conversation() -> None:
        own = bound("127.0.0.1", 0)
        address = f"http://127.0.0.1:{own.getsockname()[1]}"
        app = make_app(slow, None, HttpOptions(), name="toy")
        listening = server(app)
        serving = asyncio.create_task(listening.serve([own]))
        async with httpx2.AsyncClient(timeout=60) as client:
            asked = asyncio.create_task(client.post(f"{address}/embed", json={"texts": ["a"], "side": "y"}))
            assert await asyncio.to_thread(slow.busy.wait, 60)
            listening.should_exit = True
            while listening.servers[0].is_serving():
                await asyncio.sleep(0.01)
            with pytest.raises(httpx2.ConnectError):
                await client.get(f"{address}/health")
            slow.free.set()
            assert (await asked).json()["vectors"] == [[-0.5] * 4]
            await serving
        app.state.endpoint.close()

    asyncio.run(conversation())


def test_the_page_and_its_map_need_nothing_from_elsewhere() -> None:
    """The page names no other host and may load none; the map places rows, the query and its answers."""

    async def steps(client: httpx2.AsyncClient) -> None:
        page = await client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert set(re.findall(r"https?://[^\s\"']+", page.text)) == {"http://www.w3.org/2000/svg"}
        shown = (await client.get("/v1/map")).json()
        assert shown["rows"] == len(shown["data"]) == 20
        assert shown["data"][3]["where"] == "pkg/mod3.py:4"
        found = (await client.post("/v1/search", json={"query": "a", "k": 3, "map": True})).json()
        for answer in found["data"]:
            assert answer["at"] == pytest.approx(shown["data"][answer["row"]["start_line"] - 1]["at"])
        assert len(found["at"]) == 2

    ask(steps, INDEX)


def test_without_vectors_there_is_no_map() -> None:
    async def steps(client: httpx2.AsyncClient) -> None:
        assert (await client.get("/v1/map")).status_code == 404
        assert "at" not in (await client.post("/v1/search", json={"query": "a", "map": True})).json()

    one = ExactIndex(functions(0, 1), "", INDEX.vectors[:1])
    ask(steps, one)
