"""What a model's configuration hides: where its decoder is, how wide and long, by which kernel; and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, CTRLTokenizer, PreTrainedTokenizerFast

from cpt_ray.errors import UserError
from cpt_ray.model.decoder import context_of, width_of
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import config_of, load_backbone, load_language_model, load_tokenizer
from tests.model.written import write_model

SIZES: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXTS = ["parse a date", "x", "def f(x):\n    return {1: [x]}", "long " * 20]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|end|>"]
    backend = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>")


def published(folder: Path, tokenizer: Any, config: Any, **options: Any) -> tuple[str, np.ndarray]:
    """A model of `config`, taken as first weights and published; its folder, and the vectors it had as it was written."""
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder / "init")
    given = ModelOptions(init=str(folder / "init"), **options)
    written = str(folder / "written")
    encoder = write_model(written, tokenizer, given, tokens=300, x=20, y=40).eval()
    embedder = Embedder(written)
    embedder.encoder = encoder
    return written, embedder.embed(TEXTS, "y")


@pytest.mark.parametrize(
    ("kind", "more", "kernel"),
    [
        ("opt", {"word_embed_proj_dim": 16, "ffn_dim": 64, "dropout": 0.0}, "sdpa"),
        ("bloom", {}, "eager"),
        ("gemma2", {"head_dim": 8, "num_key_value_heads": 2, "intermediate_size": 64, "pad_token_id": None}, "eager"),
        ("llama", {"intermediate_size": 64}, "eager"),
    ],
)
def test_a_published_model_has_the_vectors_it_was_written_with(
    tmp_path: Path, tokenizer: Any, kind: str, more: Any, kernel: Any
) -> None:
    """A projection of the last states, and kernels: by option, or as the architecture has them. Whoever loads it uses
    the kernel it was trained with."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    config = AutoConfig.for_model(kind, **SIZES, **more)
    folder, before = published(tmp_path, tokenizer, config, attention=kernel if kind == "llama" else "auto")
    embedder = Embedder(folder)
    assert embedder.dimension == embedder.info.embedding_dimension == before.shape[1] == width_of(config)
    assert embedder.encoder.backbone.config._attn_implementation == kernel
    assert AutoModel.from_pretrained(folder).config._attn_implementation == kernel
    assert np.abs(embedder.embed(TEXTS, "y") - before).max() < 1e-5
    theirs = sentence_transformers.SentenceTransformer(folder, device="cpu").encode_document(TEXTS)
    assert np.abs(theirs - before).max() < 1e-5
    info = embedder.info
    assert np.abs(Embedder(str(tmp_path / "written"), untrained=info).embed(TEXTS, "y") - before).max() < 1e-5


def test_of_a_multimodal_model_the_decoder_is_taken(tmp_path: Path, tokenizer: Any) -> None:
    """Gemma 3: its configuration is nested, and so are its weights; what is published is a decoder of texts alone."""
    text = {**SIZES, "head_dim": 8, "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}
    sight = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    sight |= {"image_size": 32, "patch_size": 8}
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=sight, mm_tokens_per_image=4)
    assert (width_of(config), context_of(config)) == (32, 64)
    folder, before = published(tmp_path, tokenizer, config)
    assert AutoModel.from_pretrained(folder).config.model_type == "gemma3_text"
    assert np.abs(Embedder(folder).embed(TEXTS, "y") - before).max() < 1e-5
    whole = AutoModel.from_pretrained(tmp_path / "init")
    ids = torch.arange(9)[None]
    with torch.no_grad():
        theirs = whole(input_ids=ids).last_hidden_state
        ours = load_backbone(ModelOptions(init=str(tmp_path / "init")), 300, seed=0)(input_ids=ids).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "rotary", "longest"),
    [
        ("phi3", {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}, 16),
        ("llama", {"rope_type": "dynamic", "factor": 4.0}, 64),
        ("llama", {"rope_type": "linear", "factor": 4.0}, 64),
    ],
)
def test_a_text_is_no_longer_than_its_positions_are_its_own(kind: str, rotary: Any, longest: int) -> None:
    """Beyond `context_of` the rotary factors would go by the longest text of a batch; up to it they do not."""
    more = {"original_max_position_embeddings": 16, "pad_token_id": None} if kind == "phi3" else {}
    rotary = {"rope_theta": 10000.0, **rotary}
    config = AutoConfig.for_model(
        kind, **SIZES, **more, intermediate_size=64, max_position_embeddings=64, rope_parameters=rotary
    )
    assert context_of(config) == longest
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    ids = torch.arange(64)[None]

    def moved(length: int) -> float:
        """How far the first 8 states move when they stand in a sequence of so many tokens."""
        with torch.no_grad():
            short, long = (model(input_ids=ids[:, :n], use_cache=False).last_hidden_state[:, :8] for n in (8, length))
        return float((short - long).abs().max())

    assert moved(longest) < 1e-5
    if longest < 64:
        assert moved(longest + 1) > 1e-4


def test_weights_are_as_readable_as_the_umask_says(tmp_path: Path, tokenizer: Any) -> None:
    before = os.umask(0o022)
    try:
        write_model(str(tmp_path), tokenizer, ModelOptions(hidden_size=32, heads=2), tokens=300, x=20, y=40)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_a_tokenizer_written_in_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "<unk>": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="written in Python") as caught:
        load_tokenizer(str(tmp_path))
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize("load", [load_backbone, load_language_model])
def test_errors_name_their_cause(tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantised weights, a package that is missing and a file that is damaged are no matter of the attention kernel."""
    config = AutoConfig.for_model("llama", **SIZES, intermediate_size=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    options = ModelOptions(init=str(tmp_path), attention="sdpa")
    for name in ("AutoModel", "AutoModelForCausalLM"):

        def fails(*arguments: Any, **settings: Any) -> None:
            raise ImportError("it needs the package mamba_ssm")

        monkeypatch.setattr(f"cpt_ray.model.weights.{name}.from_pretrained", fails)
    with pytest.raises(UserError, match=r"package.*mamba_ssm") as caught:
        load(options, 300, seed=0)
    assert caught.value.where == str(tmp_path)
    monkeypatch.undo()
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(UserError, match="no weights can be read"):
        load(options, 300, seed=0)
    (tmp_path / "model.safetensors").write_bytes(weights)
    settings = json.loads((tmp_path / "config.json").read_text())
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(settings | {"quantization_config": quantised}))
    for look in (lambda: config_of(options, 300), lambda: load(options, 300, seed=0)):
        with pytest.raises(UserError, match=r"quantised \(bitsandbytes"):
            look()
