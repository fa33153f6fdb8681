"""Plans: parameters, memory by ZeRO stage, and refusals that say what would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModel

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import configuration, new_language_model
from cpt_ray.train.flops import FORWARD, weights_of
from cpt_ray.train.grad_cache import saved_bytes
from cpt_ray.train.options import ClusterSize, PlanOptions, TrainOptions
from cpt_ray.train.plan import activation_bytes, make_plan

CONF = Path(__file__).parents[2] / "conf" / "model"
LOW = TrainOptions(precision="bf16_weights")


def preset(name: str) -> ModelOptions:
    return ModelOptions(**yaml.safe_load((CONF / f"{name}.yaml").read_text()))


@pytest.mark.parametrize(
    ("name", "billions", "width"),
    [("cpt-s", 0.3, 1024), ("cpt-m", 1.2, 2048), ("cpt-l", 6.0, 4096), ("cpt-xl", 175.0, 12288)],
)
def test_presets_have_the_papers_dimensions(name: str, billions: float, width: int) -> None:
    """Embedding width as in the paper, and its number of parameters within a fifth (it does not say what it counts)."""
    train = TrainOptions(precision="bf16_weights", zero_stage=3, reduce="chunk", gradient_checkpointing=True)
    options = PlanOptions(cluster=ClusterSize(devices=128), batch_size=128 * 32)
    plan = make_plan(options, preset(name), train)
    assert preset(name).hidden_size == width
    assert plan.parameters / 1e9 == pytest.approx(billions, rel=0.2)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("precision", ["bf16", "bf16_weights"])
def test_activation_bytes_are_those_that_autograd_saves(architecture: Any, precision: Any) -> None:
    """The planner's bytes per token and layer are within 15 % of what one more layer of a real model saves."""
    train = TrainOptions(precision=precision)

    def saved(layers: int) -> tuple[float, float]:
        options = ModelOptions(architecture=architecture, hidden_size=384, layers=layers, heads=6, feedforward=1024)
        model = new_language_model(options, 300, seed=0).base_model
        if precision == "bf16_weights":
            model = model.bfloat16()
        ids = torch.zeros(16, 128, dtype=torch.long)
        with saved_bytes(model) as total, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(input_ids=ids, use_cache=False)
        return total[0] / ids.numel(), activation_bytes(configuration(options, 300), train)

    (measured_two, planned_two), (measured_one, planned_one) = saved(2), saved(1)
    assert planned_two - planned_one == pytest.approx(measured_two - measured_one, rel=0.15)


def test_sharding_lowers_memory_and_work_gives_hours() -> None:
    """Memory falls from stage to stage; twice the devices halve the hours; the S preset fits one 80 GB device."""
    options = PlanOptions(cluster=ClusterSize(devices=8), batch_size=12288)
    plan = make_plan(options, preset("cpt-s"), TrainOptions())
    static = [stage.static for stage in plan.stages]
    assert [stage.zero_stage for stage in plan.stages] == [0, 1, 2, 3]
    assert static[1] > static[3]
    assert plan.steps == 813
    more = make_plan(options.model_copy(update={"cluster": ClusterSize(devices=16)}), preset("cpt-s"), TrainOptions())
    assert more.hours == pytest.approx(plan.hours / 2, rel=0.2)
    assert make_plan(PlanOptions(cluster=ClusterSize(devices=1)), preset("cpt-s"), LOW).chosen.chunk_tokens > 256


def test_what_cannot_fit_is_refused_with_what_could() -> None:
    """175B under ZeRO 2 names the ways out; a model that ZeRO 3 would hold names ZeRO 3."""
    options = PlanOptions(cluster=ClusterSize(devices=64), batch_size=64 * 64)
    with pytest.raises(UserError, match=r"17\d\.") as caught:
        make_plan(options, preset("cpt-xl"), LOW)
    assert "zero_stage=3" in caught.value.fix
    chunked = TrainOptions(precision="bf16_weights", reduce="chunk", gradient_checkpointing=True)
    small = PlanOptions(cluster=ClusterSize(devices=64, memory_gb=14), batch_size=64 * 64)
    with pytest.raises(UserError) as caught:
        make_plan(small, preset("cpt-l"), chunked)
    assert caught.value.fix == "use zero_stage=3"


def test_hours_are_those_of_the_flops_that_the_trainer_counts() -> None:
    """Six a weight and token, and two more for what is embedded twice: with keep_graphs_mb as the trainer takes it."""
    cluster = ClusterSize(devices=8, tflops=100, utilisation=0.5)
    options = PlanOptions(cluster=cluster, batch_size=12288)

    def flops(keep_graphs_mb: int) -> float:
        plan = make_plan(options, preset("cpt-s"), TrainOptions(keep_graphs_mb=keep_graphs_mb))
        return plan.hours * 3600 * 8 * 100e12 * 0.5

    plan = make_plan(options, preset("cpt-s"), TrainOptions())
    with torch.device("meta"):
        shape = AutoModel.from_config(configuration(preset("cpt-s"), options.vocabulary))
    once = FORWARD * weights_of(shape).products(plan.tokens, texts=2 * plan.steps * 12288)
    assert flops(0) == pytest.approx(4 * once)
    assert flops(512) == pytest.approx(4 * once)  # not one chunk's graph fits beside the one at work
    assert 512 < plan.keep_graphs_mb < 80e9 / 2**20
    assert 3 * once < flops(plan.keep_graphs_mb) < 4 * once
    assert plan.hours_kept == pytest.approx(flops(plan.keep_graphs_mb) / (3600 * 8 * 100e12 * 0.5), rel=1e-3)
    assert flops(10 * plan.keep_graphs_mb) == pytest.approx(flops(plan.keep_graphs_mb), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"batch_size": 1001}, "devices"), ({"max_y_tokens": 4000}, "max_y_tokens"), ({"pairs": 10}, "batch_size")],
)
def test_impossible_plans_name_their_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(PlanOptions(**changes), preset("cpt-s"), TrainOptions())
    assert caught.value.where == f"plan.{key}" or caught.value.where == f"plan.cluster.{key}"
