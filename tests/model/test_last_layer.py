"""The short cut through the last layer is the model's own forward pass, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from cpt_ray.model.last_layer import hidden_at

SMALL = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}


def _backbone(kind: str, layers: int, kv_heads: int):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = AutoConfig.for_model("gpt2", vocab_size=97, n_positions=64, n_embd=32, n_layer=layers, n_head=4)
    else:
        config = AutoConfig.for_model(
            kind, **SMALL, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=kv_heads
        )
    return AutoModel.from_config(config, attn_implementation="sdpa").double().eval()


@pytest.mark.parametrize(
    ("kind", "layers", "kv_heads"),
    [("llama", 1, 4), ("llama", 3, 4), ("llama", 2, 2), ("qwen2", 2, 2), ("gpt2", 1, 4), ("gpt2", 3, 4)],
)
def test_equals_the_full_forward(kind, layers, kv_heads):
    """Same hidden state at the delimiter and same gradient of every weight, in fp64, whatever stands in the padding."""
    backbone = _backbone(kind, layers, kv_heads)
    ids, last = torch.randint(97, (5, 17)), torch.tensor([16, 3, 0, 9, 12])
    weight = torch.randn(5, 32, dtype=torch.float64)

    def gradients(hidden):
        backbone.zero_grad()
        (hidden * weight).sum().backward()
        return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}

    short = hidden_at(backbone, ids, last)
    full = backbone(input_ids=ids, use_cache=False).last_hidden_state[torch.arange(5), last]
    torch.testing.assert_close(short, full, rtol=0, atol=1e-12)
    of_short, of_full = gradients(short), gradients(full)
    assert of_short.keys() == of_full.keys()
    for name, gradient in of_full.items():
        torch.testing.assert_close(of_short[name], gradient, rtol=0, atol=1e-11, msg=name)
    padded = ids.clone()
    padded[1, 4:] = 5
    torch.testing.assert_close(hidden_at(backbone, padded, last), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_eager_kernel_stays_causal(kind):
    """Eager attention without a mask looks to both sides: such a model takes its own forward pass, with its mask."""
    backbone = _backbone(kind, 2, 4)
    ids, last = torch.randint(97, (5, 17)), torch.tensor([16, 3, 0, 9, 12])
    expected = hidden_at(backbone, ids, last)
    backbone.set_attn_implementation("eager")
    torch.testing.assert_close(hidden_at(backbone, ids, last), expected, rtol=0, atol=1e-5)
