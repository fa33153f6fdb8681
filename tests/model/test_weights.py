"""Weights in and out: standard folders, and the same vectors whoever loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from cpt_ray.artifacts import Ledger, build, read_manifest
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.encoder import collate
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.tokenizer import encode
from cpt_ray.model.weights import (
    configuration,
    existing,
    load_backbone,
    load_language_model,
    load_tokenizer,
    new_language_model,
    read_info,
    save_language_model,
    weights_identity,
)
from cpt_ray.train.steps import job_identity
from tests.model.written import write_model

SMALL = ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64)
TEXTS = ["parse [a] date", "x", "def f(x):\n    return {1: [x]}", "long " * 60, "[(]) {} ünïcode 日本"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with merges that would swallow a bracket if strings were joined: `[p`, `]}`, `{d`."""
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "[p", "]}", "{d", "<|end|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("[", "p"), ("]", "}"), ("{", "d")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>")


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = str(tmp_path_factory.mktemp("model"))
    write_model(target, tokenizer, SMALL, tokens=len(tokenizer), x=20, y=40)
    return target


@pytest.mark.parametrize(("side", "call"), [("x", "encode_query"), ("y", "encode_document")])
def test_sentence_transformers_gives_the_same_vectors(folder: str, side: Any, call: str) -> None:
    """`SentenceTransformer(folder)` equals our embedder within 1e-5 on both sides, long and bracketed texts included."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = getattr(sentence_transformers.SentenceTransformer(folder, device="cpu"), call)(TEXTS)
    ours = Embedder(folder).embed(TEXTS, side)
    assert np.abs(theirs - ours).max() < 1e-5


@pytest.mark.parametrize("special", [{}, {"unk_token": "[UNK]"}])
@pytest.mark.parametrize(("side", "call"), [("x", "encode_query"), ("y", "encode_document")])
def test_a_tokenizer_without_padding_is_exported_whole(tmp_path: Path, special: Any, side: Any, call: str) -> None:
    """With no pad and no EOS token the export pads with a special token, new if there is none; no token of the
    vocabulary, least of all token 0 ("!"), is cut out of a text before its merges ("!=")."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "!=", "[p", *special.values()]
    vocabulary = {word: number for number, word in enumerate(words)}
    assert vocabulary["!"] == 0
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("!", "="), ("[", "p")], **special))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    encoder = write_model(str(tmp_path), bare, SMALL, tokens=len(words), x=20, y=40)
    assert bare.pad_token is None
    assert encoder.backbone.config.vocab_size == len(words)
    texts = [*TEXTS, "!", "!=", "a != b", "!!!", "<|pad|>", "<|pad|> [UNK] !=", "a"]
    ours = Embedder(str(tmp_path)).embed(texts, side)
    theirs = getattr(sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu"), call)(texts)
    assert np.abs(theirs - ours).max() < 1e-5
    most = 20 if side == "x" else 40
    ids, last = collate([encoder.delimiters.wrap(row, side) for row in encode(bare, texts, most)], encoder.delimiters)
    with torch.no_grad():
        assert np.abs(encoder.eval()(ids, last).numpy() - ours).max() < 1e-5


def test_weights_are_known_by_their_content(folder: str, tmp_path: Path) -> None:
    """A folder without a manifest is its files, wherever it lies; one byte changed in place is another model. A hub id
    stands for itself."""
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(folder, one)
    shutil.copytree(folder, two)
    before = weights_identity(str(one))
    assert before == weights_identity(str(two))
    weights = bytearray((one / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (one / "model.safetensors").write_bytes(weights)
    assert weights_identity(str(one)) != before
    assert weights_identity("openai/some-model") == "openai/some-model"


def test_a_folder_called_new_is_what_it_holds(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not new weights, whose figures would stand for those of the folder. Where new weights are meant, it does not count."""
    shutil.copytree(folder, tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    trained = Embedder("new")
    np.testing.assert_array_equal(Embedder("new", untrained=trained.info).embed(TEXTS, "x"), trained.embed(TEXTS, "x"))
    assert existing("new").init == str(tmp_path / "new")
    order = read_manifest(_order(tmp_path))
    with_folder = job_identity(order, SMALL)
    shutil.rmtree(tmp_path / "new")
    assert job_identity(order, SMALL) == with_folder


def _order(tmp_path: Path) -> str:
    with build(str(tmp_path / "order"), step="order", version=1, params={}) as work:
        work.publish(Ledger.of("pairs", read=1, kept=1), rows=1)
    return str(tmp_path / "order")


def test_the_sides_differ(folder: str) -> None:
    """Guards the test above: a text as x and as y has different vectors."""
    embedder = Embedder(folder)
    assert np.abs(embedder.embed(TEXTS, "x") - embedder.embed(TEXTS, "y")).max() > 1e-2


def test_rows_come_back_in_order_whatever_the_chunks(folder: str) -> None:
    """Sorting by length and cutting by tokens is invisible to the caller."""
    whole = Embedder(folder).embed(TEXTS * 3, "y")
    small = Embedder(folder, chunk_tokens=42).embed(TEXTS * 3, "y")
    assert np.abs(whole - small).max() < 1e-5
    assert Embedder(folder).embed([], "x").shape == (0, 32)


def test_the_folder_is_standard(folder: str) -> None:
    """AutoModel and AutoTokenizer read it, and what they do not know is in cpt_ray.json."""
    assert AutoModel.from_pretrained(folder).config.hidden_size == 32
    assert load_tokenizer(folder)("abc")["input_ids"]
    assert json.loads(Path(folder, "cpt_ray.json").read_text())["pooling"] == "last_delimiter"


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_language_model_folder_gives_the_first_weights(tokenizer: Any, tmp_path: Path, architecture: Any) -> None:
    """A saved causal language model comes back as it was, and as a backbone without its head."""
    options = SMALL.model_copy(update={"architecture": architecture})
    first = new_language_model(options, len(tokenizer), seed=1)
    again = new_language_model(options, len(tokenizer), seed=1)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))
    save_language_model(first, tokenizer, str(tmp_path), first.state_dict())
    ids = torch.arange(12)[None]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.allclose(loaded(ids).logits, first(ids).logits, atol=1e-5)
    backbone = load_backbone(ModelOptions(init=str(tmp_path)), len(tokenizer), seed=0)
    assert not hasattr(backbone, "lm_head")
    assert torch.allclose(backbone(ids).last_hidden_state, first.base_model(ids).last_hidden_state, atol=1e-5)


def test_dropout_is_what_the_options_say(tokenizer: Any, tmp_path: Path) -> None:
    """GPT-2's configuration has 0.1 by default; ours says 0, or what is asked for."""
    options = SMALL.model_copy(update={"architecture": "gpt2"})
    model = new_language_model(options, 64, seed=1)
    assert model.config.resid_pdrop == model.config.attn_pdrop == model.config.embd_pdrop == 0
    save_language_model(model, tokenizer, str(tmp_path), model.state_dict())
    loaded = load_backbone(ModelOptions(init=str(tmp_path), dropout=0.2), 64, seed=0)
    assert loaded.config.resid_pdrop == 0.2


def test_bad_weights_are_user_errors(tokenizer: Any, tmp_path: Path) -> None:
    """NaN in the weights, a folder that is none, and a folder that holds no trained model."""
    model = new_language_model(SMALL, len(tokenizer), seed=1)
    with torch.no_grad():
        model.lm_head.weight[3, 3] = torch.nan
    save_language_model(model, tokenizer, str(tmp_path), model.state_dict())
    with pytest.raises(UserError, match="NaN"):
        load_backbone(ModelOptions(init=str(tmp_path)), len(tokenizer), seed=0)
    with pytest.raises(UserError, match="no weights"):
        load_backbone(ModelOptions(init=str(tmp_path / "nothing")), len(tokenizer), seed=0)
    with pytest.raises(UserError, match=r"cpt_ray\.json"):
        Embedder(str(tmp_path))
    with pytest.raises(UserError, match="heads"):
        new_language_model(SMALL.model_copy(update={"heads": 5}), 64, seed=0)


SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MORE: dict[str, dict[str, Any]] = {"codegen": {"rotary_dim": 4}, "qwen2": {"num_key_value_heads": 4}}


@pytest.mark.parametrize("damage", ["no weights", "cut short", "configuration", "cpt_ray.json", "another version's"])
def test_a_damaged_trained_model_is_a_user_error(folder: str, tmp_path: Path, damage: str) -> None:
    """Half copied, or cut off by a full disk: whoever opens it is told which folder it is, and sees no traceback."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "model.safetensors"
    if damage == "no weights":
        weights.unlink()
    elif damage == "cut short":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "another version's":
        (copy / "cpt_ray.json").write_text('{"format": 1, "pooling": "mean"}')
    else:
        (copy / {"configuration": "config.json"}.get(damage, damage)).write_text("{")
    with pytest.raises(UserError, match="cannot be read") as caught:
        Embedder(str(copy))
    assert caught.value.where == str(copy)
    assert caught.value.fix
    if damage in ("cpt_ray.json", "another version's"):
        with pytest.raises(UserError, match=r"cannot be read: cpt_ray\.json"):
            read_info(str(copy))


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "qwen2", "codegen", "bert", "roberta", "t5"])
def test_only_causal_decoders_are_taken(tmp_path: Path, kind: str) -> None:
    """A model that looks to the right would embed a text by its padding; no mask tells it not to."""
    AutoModel.from_config(AutoConfig.for_model(kind, **SIZES, **MORE.get(kind, {}))).save_pretrained(tmp_path)
    attention: Any = "eager" if kind == "codegen" else "sdpa"
    options = ModelOptions(init=str(tmp_path), attention=attention)
    if kind not in ("bert", "roberta", "t5"):
        assert load_backbone(options, 97, seed=0).config._attn_implementation == attention
        return
    with pytest.raises(UserError, match="causal") as caught:
        load_backbone(options, 97, seed=0)
    assert caught.value.where == str(tmp_path)


def test_an_encoder_with_a_head_is_refused_too(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", **SIZES)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="causal"):
        load_language_model(ModelOptions(init=str(tmp_path)), 97, seed=0)


@pytest.mark.parametrize(
    "error",
    [ImportError("FlashAttention2 cannot be used: flash_attn is not installed"), ValueError("no such Attention here")],
)
@pytest.mark.parametrize("new", [True, False])
def test_an_attention_that_is_not_there_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, new: bool
) -> None:
    """flash_attention_2 is a package of its own, and not every model can use it."""
    new_language_model(SMALL, 64, seed=0).save_pretrained(tmp_path)

    def fails(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", fails)
    monkeypatch.setattr(AutoModel, "from_pretrained", fails)
    options = SMALL.model_copy(update={"attention": "flash_attention_2", "init": "new" if new else str(tmp_path)})
    with pytest.raises(UserError, match="flash_attention_2") as caught:
        load_backbone(options, 64, seed=0)
    assert caught.value.where == "model.attention"


def test_new_weights_leave_every_generator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the GPUs too, which dropout draws from: each worker has seeded them for itself."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    new_language_model(SMALL, 64, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded


@pytest.mark.parametrize(("width", "heads"), [(12, 4), (8, 8)])
def test_rotary_heads_are_of_even_width(width: int, heads: int) -> None:
    with pytest.raises(UserError, match="turn pairs of numbers"):
        configuration(ModelOptions(hidden_size=width, heads=heads), 300)
    assert configuration(ModelOptions(hidden_size=width, heads=heads, architecture="gpt2"), 300).n_head == heads
