"""The FLOPs that plans and the logged utilisation count are those that the encoder's matrix products take."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import Encoder
from cpt_ray.train.flops import FORWARD, weights_of

SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
KINDS = {
    "gpt2": {},
    "llama": {"intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 4},
    "gpt_neox": {"intermediate_size": 48},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_flops_are_those_of_the_matrix_products(kind: str, attention: str) -> None:
    """Counted by PyTorch in a forward pass; the last layer is for one token of a text where it is computed so."""
    config = AutoConfig.for_model(kind, **SMALL, **KINDS[kind])
    backbone = AutoModel.from_config(config, attn_implementation=attention).eval()
    encoder = Encoder(backbone, Delimiters(x=(1, 2), y=(3, 4)))
    ids = torch.full((5, 11), 2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(ids, torch.full((5,), 10))
    by_operation = counter.get_flop_counts()["Global"]
    counted = sum(count for operation, count in by_operation.items() if str(operation) in ("aten.mm", "aten.addmm"))
    weights = weights_of(backbone)
    assert FORWARD * weights.products(tokens=55, texts=5) == counted
    assert (weights.per_text > 0) == (attention == "sdpa" and kind != "gpt_neox")


def test_weights_are_counted_without_being_there() -> None:
    config = AutoConfig.for_model("gpt2", **SMALL)
    with torch.device("meta"):
        shape = AutoModel.from_config(config)
    assert weights_of(shape) == weights_of(AutoModel.from_config(config))
