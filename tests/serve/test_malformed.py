"""Whatever is sent, the endpoint answers with a status of its own choosing and goes on; nothing is left waiting."""

from __future__ import annotations

import asyncio
import json
import random

import httpx2
import numpy as np
import pytest

from cpt_ray.serve.exact import ExactIndex
from cpt_ray.serve.http import make_app
from cpt_ray.serve.listen import bound, server
from cpt_ray.serve.options import HttpOptions
from tests.serve.serve_samples import functions, unit
from tests.serve.toy import Toy, client_of

INDEX = ExactIndex(functions(0, 20), "", unit(np.random.default_rng(0).standard_normal((20, 4))))
OPTIONS = HttpOptions(max_body=20_000, max_characters=500)
STATUSES = {200, 400, 404, 405, 413, 415, 422, 429}
PATHS = ["/v1/embeddings"] * 8 + ["/v1/similarity", "/v1/search", "/embed", "/search", "/v1/models", "/v1/models/%00"]
ODD = [
    *[
        None,
        True,
        0,
        -1,
        1,
        2**31,
        2**63,
        -(2**70),
        10**400,
        1.5,
        float("inf"),
        float("nan"),
        "",
        " ",
        "a",
        "\0",
        "\ud800",
    ],
    *[
        "a" * 600,
        "\u202e",
        "toy",
        "toy-query",
        "toy-passage",
        "base64",
        "float",
        "query",
        "passage",
        [],
        {},
        [[]],
        [[], [1]],
    ],
    *[[1, 2], [1, "a"], ["a", 1], [["a"]], [[1], [2]], ["a", ""], [True], [1.0], {"a": 1}, [None], ["a"] * 2049],
]
FIELDS = ["input", "model", "encoding_format", "dimensions", "user", "input_type", "queries", "documents"]
FIELDS += ["query", "k", "texts", "side", "extra"]
TYPES = ["application/json", "application/json; charset=latin-1", "application/json; charset=utf-16", "text/plain", ""]
TYPES += [
    "application/json; charset=idna",
    'application/json; charset="',
    "multipart/form-data",
    "application/json; charset=\xff",
]


def request(rng: random.Random) -> tuple[str, str, dict[str, bytes], bytes]:
    """Method, path, headers and body: from nearly right to noise."""
    right = {"input": ["a", "bb"], "model": "toy", "query": "a", "queries": "a", "documents": ["b"], "texts": ["a"]}
    body = {name: value for name, value in right.items() if rng.random() < 0.9}
    for _ in range(rng.randrange(4)):
        body[rng.choice(FIELDS)] = rng.choice(ODD)
    raw = json.dumps(body, ensure_ascii=rng.random() < 0.5).encode(rng.choice(["utf-8", "utf-16"]), "surrogatepass")
    if rng.random() < 0.3:
        at = rng.randrange(len(raw) + 1)
        raw = rng.choice(
            [
                raw[:at],
                raw[:at] + rng.randbytes(8) + raw[at:],
                rng.randbytes(60),
                b"[" * 9000,
                b'{"input":' * 900,
                b"9" * 9000,
            ]
        )
    method = rng.choice(["POST"] * 12 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
    path = rng.choice(PATHS) + rng.choice(
        ["", "", "", "?q=a&k=3", "?k=99999999999999999999", "?q=%ff&k=%00", "?q=a&q=b"]
    )
    return method, path, {"content-type": rng.choice(TYPES).encode("latin-1")}, raw


def malformed(count: int, seed: int) -> None:
    async def conversation() -> None:
        app = make_app(Toy(), INDEX, OPTIONS, name="toy")
        rng = random.Random(seed)
        seen = set()
        async with client_of(app) as client:
            for _ in range(count):
                method, path, headers, body = request(rng)
                answer = await client.request(method, path, headers=headers, content=body)
                seen.add(answer.status_code)
                assert answer.status_code in STATUSES, (method, path, headers, body)
                if answer.status_code != 200 and method != "HEAD":
                    assert answer.json()["error"]
            assert app.state.endpoint.batcher.waiting == 0
            assert (await client.get("/health")).status_code == 200
        app.state.endpoint.close()
        assert {200, 400, 404, 405} <= seen

    asyncio.run(conversation())


def test_malformed_requests_are_refused() -> None:
    malformed(300, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_malformed_requests_are_refused(seed: int) -> None:
    malformed(2500, seed=100 + seed)


def test_broken_conversations_leave_nothing_behind() -> None:
    """Over real sockets: noise, half a body and then the end, a client that does not read; others are served meanwhile."""

    async def conversation() -> None:
        own = bound("127.0.0.1", 0)
        host, port = own.getsockname()
        app = make_app(Toy(), INDEX, OPTIONS, name="toy")
        listening = server(app)
        serving = asyncio.create_task(listening.serve([own]))
        rng = random.Random(5)
        whole = b'POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n{"input": "a", "model": "toy"}'

        async def broken(number: int) -> None:
            _, writer = await asyncio.open_connection(host, port)
            cut = whole[: rng.randrange(len(whole))]
            sent = [
                cut,
                rng.randbytes(200),
                whole,
                b"GET / HTTP/9.9\r\n\r\n",
                b"POST /embed HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            ]
            writer.write(sent[number % len(sent)])
            await writer.drain()
            writer.transport.abort()

        async def endless() -> None:
            """A head that does not end is refused before it is all kept."""
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000)
            try:
                said = await reader.read(12)
            except ConnectionError:  # closed with bytes that it has not read: what it said may be lost
                said = b""
            assert said in (b"HTTP/1.1 400", b"")
            writer.transport.abort()

        await endless()
        async with httpx2.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as client:
            for round_ in range(4):
                await asyncio.gather(*(broken(round_ * 10 + at) for at in range(10)))
                answer = await client.post("/v1/embeddings", json={"input": "a", "model": "toy"})
                assert answer.status_code == 200
        while app.state.endpoint.batcher.waiting:  # the last of those that went away
            await asyncio.sleep(0.01)
        listening.should_exit = True
        await serving
        app.state.endpoint.close()

    asyncio.run(conversation())
