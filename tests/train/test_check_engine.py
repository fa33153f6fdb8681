"""Options that cannot work are refused by name, before anything starts."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.errors import UserError
from cpt_ray.train.options import TrainOptions, check_engine
from cpt_ray.train.temperature import Temperature


@pytest.mark.parametrize(
    ("keys", "where", "fix"),
    [
        ({"stage": 3}, "stage", "zero_stage"),
        ({"offload_optimizer": {"device": "cpu"}}, "offload_optimizer", "offload"),
        ({"cpu_offload": True}, "cpu_offload", "offload"),
        ({"reduce_bucket_sise": 1000}, "reduce_bucket_sise", "correct the key"),
    ],
)
def test_keys_of_deepspeed_are_checked_before_anything_starts(keys: dict[str, object], where: str, fix: str) -> None:
    """A misspelt key, or one that an option of ours sets and that checkpoints go by, never reaches a worker."""
    check_engine(TrainOptions(deepspeed={"reduce_bucket_size": 1000, "stage3_max_live_parameters": 10}), "train")
    with pytest.raises(UserError) as caught:
        check_engine(TrainOptions(deepspeed=keys), "train")
    assert caught.value.where == f"train.deepspeed.{where}"
    assert fix in caught.value.fix


@pytest.mark.parametrize("initial", [0.005, 2.0])
def test_a_temperature_that_the_first_step_would_move_is_refused(initial: float) -> None:
    """A trained one is clamped; a fixed one is what the options say."""
    with pytest.raises(UserError) as caught:
        check_engine(TrainOptions(temperature=initial), "train")
    assert caught.value.where == "train.temperature"
    check_engine(TrainOptions(temperature=initial, train_temperature=False), "train")


@pytest.mark.parametrize("initial", [0.01, 1.0])
def test_temperatures_at_the_bounds_are_kept(initial: float) -> None:
    check_engine(TrainOptions(temperature=initial), "train")
    temperature = Temperature(initial)
    temperature.step(torch.tensor(0.0), 0.1)
    assert temperature.value == pytest.approx(initial)
