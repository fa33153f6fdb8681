"""`cpt-ray plan` prints the stages it can choose from, and refuses what cannot fit."""

from __future__ import annotations

import pytest

from cpt_ray.pairs.options import BatchOptions
from pipelines import cli, plan, pretrain, sweep, train
from pipelines.config import choices, load


def test_a_plan_shows_every_stage(capsys):
    assert cli.main(["plan", "model=cpt-s"]) == 0
    shown = capsys.readouterr().out
    assert "12,288 pairs" in shown
    assert "hours on 8 devices" in shown
    assert "train.keep_graphs_mb=" in shown
    assert "in host memory: 1.4 GB" in shown


def test_what_cannot_fit_is_refused_with_what_could(capsys):
    assert cli.main(["plan", "model=cpt-xl", "plan.cluster.devices=8"]) == 2
    shown = capsys.readouterr().err
    assert "train.zero_stage" in shown
    assert "fix:" in shown


@pytest.mark.parametrize(
    ("size", "width", "batch"),
    [("cpt-s", 1024, 12288), ("cpt-m", 2048, 6912), ("cpt-l", 4096, 5896), ("cpt-xl", 12288, 4976)],
)
def test_a_size_brings_the_papers_batch_along(size, width, batch):
    """Where there are batches, planned or trained, unless the command line says otherwise; pretraining has none."""
    chosen = f"model={size}"
    planned = load("plan", plan.PipelineOptions, [chosen])
    trained = load("train", train.PipelineOptions, [chosen, "pairs=x"])
    swept = load("sweep", sweep.PipelineOptions, [chosen, "pairs=x"])
    pretrained = load("pretrain", pretrain.PipelineOptions, [chosen])
    for options in (planned, trained, swept, pretrained):
        assert options.model.hidden_size == width
    for sizes in (planned.plan, trained.batches, swept.batches):
        assert (sizes.batch_size, sizes.max_x_tokens, sizes.max_y_tokens) == (batch, 254, 254)
    other = load("train", train.PipelineOptions, [chosen, "pairs=x", "batches.batch_size=32"]).batches
    assert (other.batch_size, other.max_x_tokens) == (32, 254)
    assert load("plan", plan.PipelineOptions, [chosen, "plan.batch_size=32"]).plan.batch_size == 32


def test_without_a_size_the_batches_are_those_of_their_options():
    assert load("train", train.PipelineOptions, ["pairs=x"]).batches == BatchOptions()
    assert load("sweep", sweep.PipelineOptions, ["pairs=x", "model=demo"]).batches == BatchOptions()


def test_help_lists_the_choices_that_are_the_users():
    assert set(choices("train")) == {"cluster", "model"}
