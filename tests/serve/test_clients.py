"""Clients that others wrote, over a real socket and with their defaults: curl, openai, LangChain and LlamaIndex.

The last two are not in the project's environment. `pip install langchain-openai llama-index-embeddings-openai` beside it
has them run; without a network, TIKTOKEN_CACHE_DIR names the folder of tiktoken's files (llama-index-core brings one).
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openai
import pytest

from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.serve.http import API_KEY, make_app
from cpt_ray.serve.listen import bound, server
from cpt_ray.serve.options import HttpOptions
from cpt_ray.serve.token_ids import spelling

TEXTS = ["parse a date", "öffne die Datei\nund lies sie 日本", "def f(x): return x + 1", "x"]
KEY = "a-key"


@pytest.fixture(scope="module")
def embedder(model_folder: str) -> Embedder:
    return Embedder(model_folder, device="cpu")


@contextmanager
def listening(embedder: Embedder, **options: Any) -> Iterator[str]:
    """The address of an endpoint that asks for KEY."""
    app = make_app(embedder, None, HttpOptions(**options), name="toy")
    own = bound("127.0.0.1", 0)
    running = server(app)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([own])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{own.getsockname()[1]}/v1"
    finally:
        running.should_exit = True
        thread.join()
        app.state.endpoint.close()


@pytest.fixture
def url(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(API_KEY, KEY)
    with listening(embedder) as address:
        yield address


def shortened(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    part = vectors[:, :dimensions]
    return part / np.linalg.norm(part, axis=1, keepdims=True)


def cl100k() -> None:
    """Skips where its file cannot be had."""
    pytest.importorskip("tiktoken")
    try:
        spelling("cl100k_base")
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl(url: str, embedder: Embedder) -> None:
    """A text, a list, base64, ids, fewer dimensions; an error is its status and its body."""

    def asked(body: dict[str, Any], key: str = KEY) -> tuple[int, dict[str, Any]]:
        words = ["curl", "-s", "-w", "\\n%{http_code}", f"{url}/embeddings", "-H", f"Authorization: Bearer {key}"]
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text, _, status = subprocess.run(words, capture_output=True, text=True, check=True).stdout.rpartition("\n")
        return int(status), json.loads(text)

    want = embedder.embed(TEXTS, "y")
    ids = [list(map(int, row)) for row in embedder.token_ids(TEXTS)]
    for body, vectors in [
        ({"input": TEXTS[0]}, want[:1]),
        ({"input": TEXTS}, want),
        ({"input": ids}, want),
        ({"input": ids[1]}, want[1:2]),
        ({"input": TEXTS, "dimensions": 8}, shortened(want, 8)),
    ]:
        status, got = asked({"model": "toy", **body})
        assert status == 200
        np.testing.assert_allclose([item["embedding"] for item in got["data"]], vectors, atol=1e-5)
        status, got = asked({"model": "toy", "encoding_format": "base64", **body})
        packed = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in got["data"]]
        np.testing.assert_allclose(packed, vectors, atol=1e-5)
    assert asked({"model": "toy", "input": ""})[0] == 400
    assert asked({"model": "other", "input": "a"})[0] == 404
    status, got = asked({"model": "toy", "input": "a"}, key="wrong")
    assert (status, got["error"]["code"]) == (401, "invalid_api_key")


def test_openai_sync(url: str, embedder: Embedder) -> None:
    """The client that most programs use, which asks for base64; its async sister is in test_openai.py."""
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        got = client.embeddings.create(input=TEXTS, model="toy-query")
        np.testing.assert_allclose([item.embedding for item in got.data], embedder.embed(TEXTS, "x"), atol=1e-5)
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(input="a", model="other")
    with (
        openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


@pytest.mark.parametrize("side", ["x", "y"])
def test_langchain_texts(url: str, embedder: Embedder, side: str) -> None:
    """With the setting that LangChain's own pages give for servers other than OpenAI's."""
    langchain = pytest.importorskip("langchain_openai")
    name = {"x": "toy-query", "y": "toy"}[side]
    common = {"base_url": url, "api_key": KEY, "check_embedding_ctx_length": False, "max_retries": 0}
    client = langchain.OpenAIEmbeddings(model=name, **common)
    want = embedder.embed(TEXTS, side)
    np.testing.assert_allclose(client.embed_documents(TEXTS), want, atol=1e-5)
    np.testing.assert_allclose(client.embed_query(TEXTS[1]), want[1], atol=1e-5)
    np.testing.assert_allclose(asyncio.run(client.aembed_documents(TEXTS)), want, atol=1e-5)
    short = langchain.OpenAIEmbeddings(model=name, dimensions=8, **common)
    np.testing.assert_allclose(short.embed_documents(TEXTS), shortened(want, 8), atol=1e-5)
    with pytest.raises(openai.NotFoundError):
        langchain.OpenAIEmbeddings(model="other", **common).embed_query("a")
    with pytest.raises(openai.BadRequestError):
        client.embed_documents(["a", ""])
    wrong = langchain.OpenAIEmbeddings(model=name, **{**common, "api_key": "wrong"})
    with pytest.raises(openai.AuthenticationError):
        wrong.embed_query("a")


def test_langchain_as_it_comes(embedder: Embedder) -> None:
    """By itself it sends ids of cl100k_base, whatever the model: `http.token_ids` says so, and they are read as text. A
    text longer than it may send comes in pieces."""
    langchain = pytest.importorskip("langchain_openai")
    cl100k()
    with listening(embedder, token_ids="cl100k_base") as url:
        client = langchain.OpenAIEmbeddings(model="toy", base_url=url, api_key=KEY)
        np.testing.assert_allclose(client.embed_documents(TEXTS), embedder.embed(TEXTS, "y"), atol=1e-5)
        long = client.embed_query("word " * 9000)
        assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)
        with openai.OpenAI(base_url=url, api_key=KEY) as plain, pytest.raises(openai.BadRequestError, match="cl100k"):
            plain.embeddings.create(input=[10**6], model="toy")


def test_llama_index(url: str, embedder: Embedder) -> None:
    """Texts and queries, alone and in batches. It puts a space for each line's end, and sends no lists of ids."""
    llama = pytest.importorskip("llama_index.embeddings.openai")
    texts = [text.replace("\n", " ") for text in TEXTS]
    common = {"api_base": url, "api_key": KEY, "max_retries": 0}
    documents = llama.OpenAIEmbedding(model_name="toy", **common)
    np.testing.assert_allclose(documents.get_text_embedding_batch(TEXTS), embedder.embed(texts, "y"), atol=1e-5)
    np.testing.assert_allclose(documents.get_text_embedding(TEXTS[2]), embedder.embed(texts[2:3], "y")[0], atol=1e-5)
    got = asyncio.run(documents.aget_text_embedding_batch(TEXTS))
    np.testing.assert_allclose(got, embedder.embed(texts, "y"), atol=1e-5)
    queries = llama.OpenAIEmbedding(model_name="toy-query", **common)
    np.testing.assert_allclose(queries.get_query_embedding(TEXTS[0]), embedder.embed(texts[:1], "x")[0], atol=1e-5)
    short = llama.OpenAIEmbedding(model_name="toy", dimensions=8, **common)
    want = shortened(embedder.embed(texts, "y"), 8)
    np.testing.assert_allclose(short.get_text_embedding_batch(TEXTS), want, atol=1e-5)
    for name, key, error in [("other", KEY, openai.NotFoundError), ("toy", "wrong", openai.AuthenticationError)]:
        with pytest.raises(error):
            llama.OpenAIEmbedding(model_name=name, **{**common, "api_key": key}).get_text_embedding("a")


def test_ids_of_another_vocabulary_are_the_text_they_spell(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary made here; an id that it has not is a 400, one that cannot be had is the user's error."""
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([255 - value]): value for value in range(256)} | {b"da": 256, b"date": 257, b"te": 258}
    made = tiktoken.Encoding("made", pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens={})
    real = tiktoken.get_encoding
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: made if name == "made" else real(name))
    with pytest.raises(UserError, match="no-such"):
        spelling("no-such")
    ids = [made.encode_ordinary(text) for text in TEXTS]
    with listening(embedder, token_ids="made") as url, openai.OpenAI(base_url=url, api_key=KEY) as client:
        got = client.embeddings.create(input=ids, model="toy")
        np.testing.assert_allclose([item.embedding for item in got.data], embedder.embed(TEXTS, "y"), atol=1e-5)
        got = client.embeddings.create(input=TEXTS, model="toy")
        np.testing.assert_allclose([item.embedding for item in got.data], embedder.embed(TEXTS, "y"), atol=1e-5)
        for wrong in ([259], [-1], [[5], [10**12]]):
            with pytest.raises(openai.BadRequestError, match="not of made"):
                client.embeddings.create(input=wrong, model="toy")
        with pytest.raises(openai.BadRequestError, match="8,192"):
            client.embeddings.create(input=[5] * 8193, model="toy")
