"""The embeddings API as its own client sees it."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
from aiohttp.test_utils import TestClient, TestServer

from cpt_ray.model.embedder import Embedder
from cpt_ray.serve.http import make_app
from cpt_ray.serve.options import HttpOptions

TEXTS = ["parse a date", "open a file and read it", "x"]


@pytest.fixture(scope="module")
def embedder(model_folder: str) -> Embedder:
    return Embedder(model_folder, device="cpu")


def ask(embedder: Embedder, steps: Callable[[TestClient, openai.AsyncOpenAI], Any]) -> None:
    async def conversation() -> None:
        async with TestClient(TestServer(make_app(embedder, None, HttpOptions(), name="toy"))) as plain:
            address = str(plain.make_url("/v1"))
            async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
                await steps(plain, client)

    asyncio.run(conversation())


def test_the_client_gets_the_embedders_vectors(embedder: Embedder) -> None:
    """By base64 (what the client asks for by itself) and by numbers; the name or `input_type` gives the side."""
    want = {side: embedder.embed(TEXTS, side) for side in ("x", "y")}

    async def steps(_: TestClient, client: openai.AsyncOpenAI) -> None:
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
    ids = embedder._ids(TEXTS)
    want = embedder.embed(TEXTS, "y")

    async def steps(_: TestClient, client: openai.AsyncOpenAI) -> None:
        got = await client.embeddings.create(input=[list(row) for row in ids], model="toy")
        np.testing.assert_allclose(np.array([item.embedding for item in got.data]), want, atol=1e-6)
        got = await client.embeddings.create(input=list(ids[0]), model="toy")
        np.testing.assert_allclose(got.data[0].embedding, want[0], atol=1e-6)
        with pytest.raises(openai.BadRequestError, match="token id"):
            await client.embeddings.create(input=[len(embedder.tokenizer)], model="toy")

    ask(embedder, steps)


def test_models_and_errors_are_of_the_apis_kind(embedder: Embedder) -> None:
    async def steps(plain: TestClient, client: openai.AsyncOpenAI) -> None:
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
            ({"input": "a", "dimensions": 8}, "dimensions"),
            ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ]:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.embeddings.create(model="toy", **wrong)
            assert refused.value.param == param
            assert refused.value.type == "invalid_request_error"
        answer = await plain.post("/v1/nothing")
        assert answer.status == 404
        assert (await answer.json())["error"]["message"]

    ask(embedder, steps)


def test_what_was_cut_is_marked_and_not_counted(embedder: Embedder) -> None:
    limit = embedder.limit("y")

    async def steps(plain: TestClient, _: openai.AsyncOpenAI) -> None:
        sent = {"input": ["long " * 60, "short"], "model": "toy", "encoding_format": "base64"}
        got = await (await plain.post("/v1/embeddings", json=sent)).json()
        assert [item.get("truncated", False) for item in got["data"]] == [True, False]
        assert got["usage"]["prompt_tokens"] == limit + embedder.lengths(["short"])[0]
        vector = np.frombuffer(base64.b64decode(got["data"][1]["embedding"]), "<f4")
        np.testing.assert_allclose(vector, embedder.embed(["short"], "y")[0], atol=1e-6)

    ask(embedder, steps)
