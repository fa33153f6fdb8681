"""Learning rate by step, weight-decay groups, temperature."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cpt_ray.train.engine.optimiser import parameter_groups
from cpt_ray.train.options import EngineOptions
from cpt_ray.train.schedule import rate_factor
from cpt_ray.train.temperature import Temperature


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_warms_up_and_then_falls_to_its_final_share(schedule: str) -> None:
    options = EngineOptions(schedule=schedule, warmup=0.1, final_rate=0.2)
    rates = [rate_factor(step, 100, options) for step in range(100)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1.0 if schedule == "constant" else 0.2)


def test_vectors_are_not_decayed() -> None:
    """Matrices and embeddings decay, norms and biases do not, frozen weights are left out."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    model[1].weight.requires_grad_(False)
    options = EngineOptions(weight_decay=0.1, embedding_rate_factor=3)
    decayed, others = parameter_groups(model, options)
    assert decayed["weight_decay"] == 0.1
    assert (decayed["rate_factor"], others["rate_factor"]) == (3, 1)
    assert others["weight_decay"] == 0.0
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in others["params"]] == [1, 1, 1]


def test_the_temperature_moves_against_its_gradient_and_stays_bounded() -> None:
    """A gradient that wants sharper logits lowers the temperature, down to 0.01 and no further; its state comes back."""
    temperature = Temperature(0.07)
    assert temperature.value == pytest.approx(0.07)
    temperature.step(torch.tensor(-1.0), 0.1)
    assert temperature.value < 0.07
    for _ in range(100):
        temperature.step(torch.tensor(-1.0), 0.1)
    assert temperature.value == pytest.approx(0.01)
    other = Temperature(0.5)
    other.restore(temperature.state())
    other.step(torch.tensor(1.0), 0.1)
    temperature.step(torch.tensor(1.0), 0.1)
    assert other.value == temperature.value


def test_an_untrained_temperature_stays() -> None:
    temperature = Temperature(0.05, trained=False)
    temperature.step(torch.tensor(5.0), 1.0)
    assert temperature.value == pytest.approx(0.05)
    assert math.isfinite(temperature.value)
