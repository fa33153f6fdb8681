"""The preparations of contrastive training do what they say, and by default nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.options import StartOptions
from cpt_ray.model.start import prepare

DELIMITERS = Delimiters.from_dict({"x": [1, 2], "y": [3, 4]})


def _llama():
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    backbone = AutoModel.from_config(config)
    with torch.no_grad():
        backbone.embed_tokens.weight += 3.0
    return backbone


def test_by_default_nothing_changes():
    backbone, same = _llama(), _llama()
    prepare(backbone, DELIMITERS, StartOptions(), seed=0)
    for a, b in zip(backbone.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)


def test_embeddings_are_centred_and_delimiters_and_attention_small():
    """Mean 0, the deviation asked for, closing delimiters scaled, queries and keys scaled, values untouched."""
    backbone, same = _llama(), _llama()
    prepare(backbone, DELIMITERS, StartOptions(embedding_std=0.05, attention_scale=0.25), seed=0)
    table = backbone.embed_tokens.weight
    assert table.mean(0).abs().max() < 1e-6
    assert float(table.detach().std()) == pytest.approx(0.05, rel=1e-4)
    for layer, before in zip(backbone.layers, same.layers, strict=True):
        torch.testing.assert_close(layer.self_attn.q_proj.weight, before.self_attn.q_proj.weight * 0.25)
        torch.testing.assert_close(layer.self_attn.k_proj.weight, before.self_attn.k_proj.weight * 0.25)
        assert torch.equal(layer.self_attn.v_proj.weight, before.self_attn.v_proj.weight)
    untouched = table[2].clone()
    prepare(backbone, DELIMITERS, StartOptions(closing_scale=0.1), seed=0)
    torch.testing.assert_close(backbone.embed_tokens.weight[2], untouched * 0.1)


def test_an_architecture_without_such_projections_is_told():
    backbone = AutoModel.from_config(AutoConfig.for_model("gpt2", vocab_size=97, n_embd=32, n_layer=1, n_head=4))
    with pytest.raises(UserError, match="query and key"):
        prepare(backbone, DELIMITERS, StartOptions(attention_scale=0.5), seed=0)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "qwen2", "codegen"])
def test_the_topmost_layers_start_anew_and_the_others_stay(tmp_path: Path, kind: str):
    """Read from a folder, the last layer is drawn anew with the architecture's deviation, by the seed; all else stays."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.05}
    more = {"rotary_dim": 4} if kind == "codegen" else {}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=97, **sizes, **more)).save_pretrained(tmp_path)
    read, one, same, other = (AutoModel.from_pretrained(tmp_path) for _ in range(4))
    for backbone, seed in ((one, 1), (same, 1), (other, 2)):
        prepare(backbone, DELIMITERS, StartOptions(reset_layers=1), seed)
    mine, twin, third = (dict(each.named_parameters()) for each in (one, same, other))
    for name, before in read.named_parameters():
        assert torch.equal(mine[name], twin[name])
        if ".1." in name and before.dim() == 2:
            assert not torch.equal(mine[name], before)
            assert not torch.equal(mine[name], third[name])
            assert 0.02 < float(mine[name].detach().std()) < 0.06
        elif ".1." not in name:
            assert torch.equal(mine[name], before)


def test_more_layers_than_there_are_cannot_start_anew():
    with pytest.raises(UserError, match="the model has 2"):
        prepare(_llama(), DELIMITERS, StartOptions(reset_layers=3), seed=0)
