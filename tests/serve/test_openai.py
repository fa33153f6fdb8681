"""The embeddings API as its own client sees it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

import httpx2
import numpy as np
import openai
import pytest

from cpt_ray.model.embedder import Embedder
from cpt_ray.serve.http import API_KEY, make_app
from cpt_ray.serve.options import HttpOptions
from tests.serve.toy import client_of

TEXTS = ["parse a date", "open a file and read it", "x"]


@pytest.fixture(scope="module")
def embedder(model_folder: str) -> Embedder:
    return Embedder(model_folder, device="cpu")


def ask(
    embedder: Embedder, steps: Callable[[httpx2.AsyncClient, openai.AsyncOpenAI], Awaitable[None]], **options: int
) -> None:
    async def conversation() -> None:
        app = make_app(embedder, None, HttpOptions(**options), name="toy")
        try:
            async with client_of(app) as plain:
                client = openai.AsyncOpenAI(
                    base_url="http://toy/v1", api_key="none", max_retries=0, http_client=client_of(app)
                )
                async with client:
                    await steps(plain, client)
        finally:
            app.state.endpoint.close()

    asyncio.run(conversation())


def test_the_client_gets_the_embedders_vectors(embedder: Embedder) -> None:
    """By base64 (what the client asks for by itself) and by numbers; the name or `input_type` gives the side."""
    want = {side: embedder.embed(TEXTS, side) for side in ("x", "y")}

    async def steps(_: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
        for model, extra, side in [
            ("toy", {}, "y"),
            ("toy-passage", {}, "y"),
            ("toy-query", {}, "x"),
            ("toy", {"extra_body": {"input_type": "query"}}, "x"),
            ("toy", {"encoding_format": "float", "dimensions": 32}, "y"),
        ]:
            got = await client.embeddings.create(input=TEXTS, model=model, **extra)
            np.testing.assert_allclose(np.array([item.embedding for item in got.data]), want[side], atol=1e-6)
            assert [item.index for item in got.data] == [0, 1, 2]
            assert got.usage.prompt_tokens == got.usage.total_tokens == embedder.lengths(TEXTS).sum()
        one = await client.embeddings.create(input=TEXTS[1], model="toy")
        np.testing.assert_allclose(one.data[0].embedding, want["y"][1], atol=1e-6)

    ask(embedder, steps)


def test_token_ids_are_the_text_they_spell(embedder: Embedder) -> None:
    ids = embedder.token_ids(TEXTS)
    want = embedder.embed(TEXTS, "y")

    async def steps(_: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
        got = await client.embeddings.create(input=[list(row) for row in ids], model="toy")
        np.testing.assert_allclose(np.array([item.embedding for item in got.data]), want, atol=1e-6)
        got = await client.embeddings.create(input=list(ids[0]), model="toy")
        np.testing.assert_allclose(got.data[0].embedding, want[0], atol=1e-6)
        with pytest.raises(openai.BadRequestError, match="token id") as refused:
            await client.embeddings.create(input=[len(embedder.tokenizer)], model="toy")
        assert refused.value.param == "input"

    ask(embedder, steps)


def test_models_and_errors_are_of_the_apis_kind(embedder: Embedder) -> None:
    async def steps(plain: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
        assert [model.id async for model in client.models.list()] == ["toy", "toy-passage", "toy-query"]
        assert (await client.models.retrieve("toy-query")).id == "toy-query"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.embeddings.create(input="a", model="other")
        assert unknown.value.code == "model_not_found"
        for wrong, param in [
            ({"input": ""}, "input"),
            ({"input": []}, "input"),
            ({"input": ["a", ""]}, "input"),
            ({"input": ["a"] * 2049}, "input"),
            ({"input": "a " * 9000}, "input"),
            ({"input": "a", "dimensions": 33}, "dimensions"),
            ({"input": "a", "dimensions": 0}, "dimensions"),
            ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ]:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.embeddings.create(model="toy", **wrong)
            assert refused.value.param == param
            assert refused.value.type == "invalid_request_error"
        optional = dict.fromkeys(["encoding_format", "dimensions", "user", "input_type"])  # null: as left out
        assert (await plain.post("/v1/embeddings", json={"input": "a", "model": "toy", **optional})).status_code == 200
        answer = await plain.post("/v1/nothing")
        assert answer.status_code == 404
        assert answer.json()["error"]["message"]

    ask(embedder, steps)


def test_what_was_cut_is_marked_and_not_counted(embedder: Embedder) -> None:
    limit = embedder.limit("y")

    async def steps(plain: httpx2.AsyncClient, _: openai.AsyncOpenAI) -> None:
        sent = {"input": ["long " * 60, "short"], "model": "toy", "encoding_format": "base64"}
        got = (await plain.post("/v1/embeddings", json=sent)).json()
        assert [item.get("truncated", False) for item in got["data"]] == [True, False]
        assert got["usage"]["prompt_tokens"] == limit + embedder.lengths(["short"])[0]
        vector = np.frombuffer(base64.b64decode(got["data"][1]["embedding"]), "<f4")
        np.testing.assert_allclose(vector, embedder.embed(["short"], "y")[0], atol=1e-6)

    ask(embedder, steps)


def test_fewer_dimensions_are_the_first_ones_of_length_one(embedder: Embedder) -> None:
    """As the API shortens its own; in both encodings."""
    part = embedder.embed(TEXTS, "y")[:, :8]
    want = part / np.linalg.norm(part, axis=1, keepdims=True)

    async def steps(_: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
        for encoding in ("float", "base64"):
            got = await client.embeddings.create(input=TEXTS, model="toy", dimensions=8, encoding_format=encoding)
            vectors = [
                np.frombuffer(base64.b64decode(item.embedding), "<f4") if encoding == "base64" else item.embedding
                for item in got.data
            ]
            np.testing.assert_allclose(np.array(vectors), want, atol=1e-6)

    ask(embedder, steps)


def test_what_the_client_raises_is_its_own_class(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """401, 413, 422 and 429 too."""

    async def steps(_: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.APIStatusError) as large:
            await client.embeddings.create(input="a" * 5000, model="toy")
        assert large.value.status_code == 413
        with pytest.raises(openai.UnprocessableEntityError):
            await client.embeddings.create(input="a", model="toy-query", extra_body={"input_type": "passage"})
        monkeypatch.setenv(API_KEY, "another")
        with pytest.raises(openai.AuthenticationError):
            await client.embeddings.create(input="a", model="toy")
        monkeypatch.delenv(API_KEY)
        several = [client.embeddings.create(input="a", model="toy") for _ in range(3)]
        raised = [e for e in await asyncio.gather(*several, return_exceptions=True) if isinstance(e, Exception)]
        assert {type(error) for error in raised} == {openai.RateLimitError}

    ask(embedder, steps, max_body=4096, max_waiting=1)


def test_many_clients_get_each_their_own_vectors(embedder: Embedder) -> None:
    """Texts of both sides and all lengths share batches; each vector is the one the text has alone, to 1e-5."""
    rng = np.random.default_rng(3)
    asked = [["def parse " * int(n) for n in rng.integers(1, 12, int(count))] for count in rng.integers(1, 5, 24)]

    async def steps(_: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
        names = ["toy-query" if at % 2 else "toy" for at in range(len(asked))]
        calls = [client.embeddings.create(input=t, model=m) for t, m in zip(asked, names, strict=True)]
        for texts, name, got in zip(asked, names, await asyncio.gather(*calls), strict=True):
            for text, item in zip(texts, got.data, strict=True):
                alone = embedder.embed([text], "x" if name == "toy-query" else "y")[0]
                np.testing.assert_allclose(item.embedding, alone, atol=1e-5)

    ask(embedder, steps, batch_tokens=256)
