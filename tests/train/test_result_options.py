"""Which options of training are part of what comes out, and which batches can be dealt to the workers."""

from __future__ import annotations

import pytest

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.train.options import (
    EngineOptions,
    PretrainOptions,
    TrainOptions,
    check_divisible,
    merit,
)

ENGINE = {
    *("precision", "learning_rate", "embedding_rate_factor", "schedule", "warmup", "final_rate", "weight_decay"),
    *("beta1", "beta2", "eps", "clip", "seed", "steps", "evaluate_every", "deepspeed"),
}


def test_every_option_says_what_comes_out_or_how_it_is_run() -> None:
    """A new option fails here until it is put on one side: marked `How`, or named below."""
    temperature = {"temperature", "train_temperature", "temperature_rate"}
    assert TrainOptions().result().keys() == ENGINE | temperature | {"mask_false_negatives", "best"}
    assert PretrainOptions().result().keys() == ENGINE
    model = {"architecture", "hidden_size", "layers", "heads", "feedforward", "context", "initializer_range", "dropout"}
    assert ModelOptions().result().keys() == model | {"start"}
    assert ModelOptions().result("start").keys() == model


def test_a_batch_is_divided_by_every_number_of_workers_that_there_may_be() -> None:
    check_divisible(EngineOptions(workers=2, elastic_workers=4), 12, "batch_size")
    check_divisible(EngineOptions(workers=0), 3, "batch_size")
    for workers, most, refused, use in [(2, None, 2, 14), (2, 4, 2, 24), (3, 4, 3, 24), (1, 3, 2, 18)]:
        options = EngineOptions(workers=workers, elastic_workers=most)
        with pytest.raises(
            UserError, match=rf"batch_size: a batch of 13 cannot be divided by {refused} workers"
        ) as error:
            check_divisible(options, 13, "batch_size")
        assert error.value.fix.endswith(f" {use}")


@pytest.mark.parametrize("most", [100, 20_000, 1 << 60])
def test_no_batch_is_divided_by_very_many_numbers_of_workers(most: int) -> None:
    """Their least common multiple has thousands of digits, or is never found."""
    with pytest.raises(UserError, match="cannot be divided by 5 workers") as error:
        check_divisible(EngineOptions(workers=2, elastic_workers=most), 12, "batch_size")
    assert "lower elastic_workers" in error.value.fix


def test_of_a_loss_less_is_better() -> None:
    assert merit("heldout_mrr", 0.3) > merit("heldout_mrr", 0.2)
    assert merit("heldout_loss", 0.2) > merit("heldout_loss", 0.3)
