"""Internals of transformers, on tiny models."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from cpt_ray.compat import transformers as compat

IDS = torch.tensor([[1, 5, 3, 7], [2, 2, 9, 4]])


def tiny(kind: str) -> Any:
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=32, **sizes)).eval()


def test_a_model_names_its_kernel_and_can_be_given_another() -> None:
    """The switch is really looked at: eager gives attention weights, sdpa does not."""
    model = tiny("llama")
    assert compat.kernel_of(model) == "sdpa", "config._attn_implementation no longer says sdpa by itself"
    with compat.kernel(model, "eager"):
        assert compat.kernel_of(model) == "eager"
        by_hand = model(IDS, output_attentions=True).attentions
        assert by_hand, "config._attn_implementation is no longer what a forward pass goes by"
        assert by_hand[0] is not None
    assert compat.kernel_of(model) == "sdpa"


def test_a_kernel_that_is_not_to_be_had_is_said_in_these_words() -> None:
    config = AutoConfig.for_model("llama", hidden_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=8)
    with pytest.raises((ImportError, ValueError)) as caught:
        AutoModel.from_config(config, attn_implementation="flash_attention_2")
    assert compat.says_no_kernel(caught.value), f"transformers now says: {caught.value}"
    assert not compat.says_no_kernel(OSError("no file named model.safetensors"))


def test_architectures_with_more_than_texts_are_listed() -> None:
    assert compat.has_processor("whisper"), "PROCESSOR_MAPPING_NAMES no longer lists Whisper"
    assert not compat.has_processor("llama")
    assert not compat.has_processor("gpt2")


def test_a_layer_that_was_read_is_drawn_anew() -> None:
    """Weights marked as read from a file are drawn again; those of other layers stay."""
    model = tiny("llama")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
            parameter._is_hf_initialized = True
        compat.draw_anew(model, model.layers[-1])
    drawn = model.layers[-1].mlp.up_proj.weight
    assert 0 < float(drawn.detach().std()) < 1, "`_is_hf_initialized` no longer decides whether `_init_weights` draws"
    assert float(model.layers[0].mlp.up_proj.weight.detach().min()) == 7.0


def test_the_states_before_the_last_layer_are_the_models() -> None:
    """Running the last layer and the norm on them gives what the model gives."""
    model = tiny("llama")
    with torch.no_grad():
        hidden, layer, rotary = compat.llama_before_last(model, IDS)
        positions = torch.arange(4)[None]
        got = model.norm(layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary))
        assert torch.allclose(got, model(IDS).last_hidden_state, atol=1e-6), "Llama's layers are called otherwise"
        k = torch.randn(2, 2, 4, 8)
        turned = compat.rotated(k, *rotary)
    assert turned.shape == k.shape
    assert torch.allclose(turned.norm(dim=-1), k.norm(dim=-1), atol=1e-5), "apply_rotary_pos_emb gives something else"
    for name in ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm"):
        assert hasattr(layer, name), f"Llama's layer has no {name}"
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "scaling", "attention_dropout"):
        assert hasattr(layer.self_attn, name), f"Llama's attention has no {name}"
    model = tiny("gpt2")
    with torch.no_grad():
        hidden, layer = compat.gpt2_before_last(model, IDS)
        got = layer(hidden)
        got = model.ln_f(got if isinstance(got, torch.Tensor) else got[0])
        assert torch.allclose(got, model(IDS).last_hidden_state, atol=1e-6), "GPT-2's layers are called otherwise"
    for name in ("c_attn", "c_proj", "split_size", "num_heads", "head_dim", "scaling", "attn_dropout", "resid_dropout"):
        assert hasattr(layer.attn, name), f"GPT-2's attention has no {name}"


def test_a_revision_is_resolved_to_a_commit(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the cache's layout: .../snapshots/<commit>/config.json."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    at = tmp_path / "models--a--b" / "snapshots" / commit / "config.json"
    monkeypatch.setattr(compat, "cached_file", lambda name, file, revision: str(at))
    assert compat.commit_of("a/b", "main") == commit, "extract_commit_hash reads another layout"
    wanted = inspect.signature(PreTrainedModel.from_pretrained).parameters
    assert "revision" in wanted, "from_pretrained takes no revision"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_linear_layers_multiply_otherwise_and_give_the_same(kind: str) -> None:
    """All of them, GPT-2's too, which are no nn.Linear; those that are not float32 are left alone."""
    model = tiny(kind)
    with torch.inference_mode():
        want = model(IDS).last_hidden_state
        linear = [part for part in model.modules() if getattr(part, "weight", torch.ones(1)).dim() == 2]
        linear = [part for part in linear if not isinstance(part, torch.nn.Embedding)]
        compat.multiply_for_inference(model)
        assert all(isinstance(part.forward, functools.partial) for part in linear)
        assert linear
        torch.testing.assert_close(model(IDS).last_hidden_state, want, rtol=1e-5, atol=1e-5)
    double = tiny(kind).double()
    compat.multiply_for_inference(double)
    assert not any("forward" in vars(part) for part in double.modules())
