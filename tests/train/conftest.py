"""Tiny corpora, orders and models that train in a second. One thread: more only wait for each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.batches import build_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.train.options import PackOptions
from cpt_ray.train.packing import build_windows

torch.set_num_threads(1)

SMALL = ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64)


def encode(texts: list[str]) -> list[list[int]]:
    return [list(text.encode()) for text in texts]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer of single bytes."""
    backend = Tokenizer(models.BPE(vocab={chr(i): i for i in range(256)} | {"<end>": 256}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Published orders: `batches` (20 of 32 pairs), `heldout` (one of 64), `windows` (12 of 8 windows of 32 tokens).

    y holds the word of x among others, so that there is something to learn.
    """
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefgh"), 5)) for _ in range(900)]
    rows: list[dict[str, Any]] = [
        {
            "pair_id": f"{i:04d}",
            "source": "toy",
            "x": word,
            "y": f"{words[(i * 7) % 900][:3]} {word} {words[(i * 13) % 900][: i % 6]}",
            "x_hash": i,
            "y_hash": i,
            "cluster": i,
        }
        for i, word in enumerate(words)
    ]
    kinds = {"x_hash": pa.uint64(), "y_hash": pa.uint64(), "cluster": pa.uint64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])
    root = tmp_path_factory.mktemp("corpus")
    paths = {name: str(root / name) for name in ("batches", "heldout", "windows")}
    limits = {"max_x_tokens": 16, "max_y_tokens": 24}
    pairs = pa.Table.from_pylist(rows, schema)
    build_batches(
        paths["batches"], pairs.slice(0, 800), listed(encode), BatchOptions(batch_size=32, steps=20, **limits), {}
    )
    build_batches(
        paths["heldout"], pairs.slice(800), listed(encode), BatchOptions(batch_size=64, steps=1, **limits), {}
    )
    texts = pa.table({"id": [f"{i:04d}" for i in range(900)], "text": [f"{word} is {word}." for word in words]})
    build_windows(paths["windows"], texts, encode, 256, PackOptions(context=32, batch_size=8, steps=12), {})
    return paths


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    return {"out": str(tmp_path / "out"), "scratch": str(tmp_path / "scratch")}
