"""The faster precision is the one that was measured to be; names of processors have no say."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3nTextConfig, GPT2Config, LlamaConfig

from cpt_ray.model.precision import FEW, REPEATS, Choice, Shape, choose, layer_of


class Machine:
    """A clock, and a layer that takes `fp32` or `bf16` seconds a token on it."""

    def __init__(self, fp32: float, bf16: float) -> None:
        self.cost, self.now, self.runs = {False: fp32, True: bf16}, 0.0, list[tuple[int, bool]]()

    def clock(self) -> float:
        return self.now

    def layer(self, tokens: int, low: bool) -> None:
        self.runs.append((tokens, low))
        self.now += tokens * self.cost[low]


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [
        (3.0, 1.0, "bf16"),
        (1.2, 1.0, "bf16"),
        (1.05, 1.0, "fp32"),
        (1.0, 1.0, "fp32"),
        (1.0, 3.0, "fp32"),
        (1.0, 88.0, "fp32"),
    ],
)
def test_the_faster_wins_and_within_a_tenth_fp32(fp32: float, bf16: float, chosen: str) -> None:
    machine = Machine(fp32, bf16)
    found = choose(machine.layer, 1000, machine.clock)
    assert found.precision == chosen
    assert found.fp32_tokens_per_second == pytest.approx(1 / fp32)
    assert found.bf16_tokens_per_second == pytest.approx(1 / bf16)


def test_what_is_hopeless_is_not_measured_at_length() -> None:
    """A layer in bf16 88 times slower is seen with few tokens; the many would take longer than all the rest."""
    slow, near = Machine(1.0, 88.0), Machine(1.0, 3.0)
    choose(slow.layer, 1000, slow.clock)
    choose(near.layer, 1000, near.clock)
    assert max(tokens for tokens, low in slow.runs if low) <= FEW
    assert slow.runs.count((1000, False)) == REPEATS + 1  # by which time is told
    assert near.runs.count((1000, True)) == REPEATS + 1


def test_load_beside_it_does_not_decide() -> None:
    """Repeats in turn, the least of each: one slow moment changes nothing."""

    class Busy(Machine):
        def layer(self, tokens: int, low: bool) -> None:
            super().layer(tokens, low)
            if self.runs.count((1000, True)) == 2 and low:
                self.now += 1e6

    machine = Busy(2.0, 1.0)
    assert choose(machine.layer, 1000, machine.clock).precision == "bf16"


def test_the_layer_has_the_shape_of_the_model() -> None:
    llama = LlamaConfig(hidden_size=48, num_attention_heads=4, intermediate_size=80, vocab_size=300)
    gpt2 = GPT2Config(n_embd=32, n_head=2, vocab_size=100)
    uneven = Gemma3nTextConfig(hidden_size=48, num_attention_heads=4, intermediate_size=[80, 96], num_hidden_layers=2)
    assert Shape.of(llama, sequence=16, trained=True) == Shape(48, 4, 80, 0, 16, True)
    assert Shape.of(uneven, sequence=16, trained=True) == Shape(48, 4, 96, 0, 16, True)
    assert Shape.of(gpt2, sequence=8, trained=False, logits=True) == Shape(32, 2, 128, 100, 8, False)
    assert Shape(64, 1, 256, 0, 16, True).tokens > Shape(4096, 32, 16384, 50000, 16, True).tokens >= FEW


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("low", [False, True])
def test_the_layer_runs_in_both(trained: bool, low: bool) -> None:
    """Any number of tokens; gradients only where it is trained."""
    layer = layer_of(Shape(32, 2, 64, 50 if trained else 0, 16, trained), "cpu")
    for tokens in (4, 16, 100):
        layer(tokens, low)
    assert torch.is_grad_enabled()


def test_a_choice_is_told_with_both_figures() -> None:
    choice = Choice("bf16", 1000.4, 2500.0)
    assert str(choice) == "bf16 (one layer: 1,000 tokens/s in fp32, 2,500 in bf16)"
    assert choice.to_dict()["precision"] == "bf16"
