"""What a training is said to take: counted loads, the probe's speed, and the demo's own times."""

from __future__ import annotations

from typing import Any

import pytest

from cpt_ray.model.delimiters import ADDED
from cpt_ray.model.precision import Choice, Shape
from cpt_ray.pairs.batches import BatchReader
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.train.estimate import START, Load, Training, seconds
from cpt_ray.train.flops import Weights
from cpt_ray.train.options import TrainOptions

SHAPE = Shape(64, 4, 256, 0, 32, trained=True)
WEIGHTS = Weights(per_token=50_000, per_text=20_000)
OPTIONS = TrainOptions(workers=2)


def test_a_load_is_that_of_the_first_batch(corpus: Any) -> None:
    """Tokens with their delimiters of pairs, and of windows all that they hold."""
    rows = BatchReader(corpus["batches"])[0].to_pylist()
    tokens = sum(len(row["x_ids"]) + len(row["y_ids"]) + 2 * ADDED for row in rows)
    assert Load.of_first(corpus["batches"]) == Load(tokens, 2 * len(rows))
    windows = BatchReader(corpus["windows"])[0].to_pylist()
    assert Load.of_first(corpus["windows"]) == Load(sum(len(row["ids"]) for row in windows), 0)


def test_a_batch_that_is_not_made_yet_has_its_hard_negatives() -> None:
    plain, hard = (Load.of_pairs(8, BatchOptions(batch_size=8, hard_negatives=count)) for count in (0, 1))
    assert (plain.texts, hard.texts) == (16, 24)
    assert hard.tokens > plain.tokens


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "bf16_weights"])
def test_time_goes_by_steps_workers_and_the_precision_that_is_taken(precision: Any) -> None:
    """Twice the steps take twice the time, four workers half of two; products in bf16 at the speed found in bf16."""
    options = OPTIONS.model_copy(update={"precision": precision})
    choice = Choice("bf16", 1000.0, 3000.0)

    def time(steps: int, choice: Choice = choice, **changes: Any) -> float:
        training = Training(steps, Load(1000, 20))
        return seconds(training, WEIGHTS, SHAPE, choice, options.model_copy(update=changes)) - START

    assert time(20) == pytest.approx(2 * time(10))
    assert time(10, workers=4) == pytest.approx(time(10) / 2)
    assert (time(10, Choice("bf16", 1000.0, 6000.0)) < time(10)) == (precision != "fp32")
    assert time(10, Choice("fp32", 2000.0, 6000.0)) == pytest.approx(
        time(10) / 2, rel=1e-6 if precision == "fp32" else 1
    )
    assert seconds(Training(1, Load(1, 1)), WEIGHTS, SHAPE, choice, options.model_copy(update={"workers": 0})) < START


def test_looks_at_held_out_pairs_and_a_head_take_time() -> None:
    choice = Choice("fp32", 1000.0, 500.0)
    step, look = Load(1000, 20), Load(500, 10)
    often, seldom = (
        seconds(
            Training.of(20, step, look, OPTIONS.model_copy(update={"evaluate_every": every})),
            WEIGHTS,
            SHAPE,
            choice,
            OPTIONS,
        )
        for every in (5, 50)
    )
    assert often > seldom
    words = Shape(64, 4, 256, 8000, 32, trained=True)
    training = Training(20, Load(1000, 0))
    rate = Choice("fp32", 1000.0 * SHAPE.weights / words.weights, 500.0)  # as many products a second
    assert seconds(training, WEIGHTS, words, rate, OPTIONS) > seconds(training, WEIGHTS, SHAPE, choice, OPTIONS)
