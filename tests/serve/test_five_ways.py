"""One text has one vector, whichever way it is asked for: by API, by batch, by Embedder, by sentence-transformers, by pyfunc."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openai
import pyarrow as pa
import pytest

from cpt_ray.artifacts.store import read_table
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import Side
from cpt_ray.serve.embed import embed_table
from cpt_ray.serve.http import make_app
from cpt_ray.serve.options import EmbedOptions, HttpOptions
from cpt_ray.serve.pyfunc import save
from tests.serve.toy import client_of

TEXTS = ["parse a date", "def f(x):\n    # twice\n    return 2 * x", "日本語 with ümlauts", "x", "long " * 60]


def by_api(folder: str, side: Side) -> np.ndarray:
    async def asked() -> np.ndarray:
        app = make_app(Embedder(folder, device="cpu"), None, HttpOptions(), name="toy")
        async with openai.AsyncOpenAI(base_url="http://toy/v1", api_key="none", http_client=client_of(app)) as client:
            got = await client.embeddings.create(input=TEXTS, model="toy-query" if side == "x" else "toy-passage")
        app.state.endpoint.close()
        return np.array([item.embedding for item in got.data])

    return asyncio.run(asked())


def by_sentence_transformers(folder: str, side: Side) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    opened = SentenceTransformer(folder, device="cpu")
    return np.asarray(opened.encode_query(TEXTS) if side == "x" else opened.encode_document(TEXTS))


def by_pyfunc(folder: str, side: Side, to: str) -> np.ndarray:
    import mlflow.pyfunc

    save(folder, to)
    return np.asarray(mlflow.pyfunc.load_model(to).predict(TEXTS, params={"side": side}))


@pytest.mark.parametrize("side", ["x", "y"])
def test_all_five_give_one_vector(publish: Callable[..., str], model_folder: str, tmp_path: Path, side: Side) -> None:
    """Both sides, a text that is cut among them, to 1e-5."""
    source = publish("texts", pa.table({"id": list("abcde"), "text": TEXTS}))
    options = EmbedOptions(text="text", key="id", side=side, precision="fp32", rows_per_shard=2)
    embed_table(str(tmp_path / "vectors"), source=source, model=model_folder, options=options)
    table = read_table(str(tmp_path / "vectors"))
    assert table["key"].to_pylist() == list("abcde")
    want = Embedder(model_folder, device="cpu").embed(TEXTS, side)
    found = {
        "API": by_api(model_folder, side),
        "batch": np.array(table["vector"].to_pylist()),
        "SentenceTransformer": by_sentence_transformers(model_folder, side),
        "pyfunc": by_pyfunc(model_folder, side, str(tmp_path / "pyfunc")),
    }
    for way, vectors in found.items():
        np.testing.assert_allclose(vectors, want, atol=1e-5, err_msg=way)
