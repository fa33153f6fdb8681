"""Internals of DeepSpeed, on one-process engines of every ZeRO stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cpt_ray.compat import deepspeed as compat
from cpt_ray.train.engine.zero import MOMENTS, TAG, DeepSpeedEngine
from cpt_ray.train.launch import alone
from cpt_ray.train.options import EngineOptions

STAGES = [0, 1, 2, 3]


class Toy(nn.Module):
    """Two groups of the optimiser: matrices and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x).square().mean()


def stepped(stage: int, **more: Any) -> DeepSpeedEngine:
    """An engine after one step, in this process alone."""
    options = EngineOptions(workers=0, zero_stage=stage, precision="fp32", **more)
    torch.manual_seed(0)
    engine = DeepSpeedEngine(Toy(), options, alone(options))
    with engine.accumulate():
        engine.backward(engine.embed(torch.ones(2, 3)), last=True)
    engine.step(1e-2)
    return engine


def test_a_value_that_it_does_not_take_is_named() -> None:
    assert compat.refused_value({"stage": 2, "sub_group_size": 1000}) is None
    refused = compat.refused_value({"stage": 2, "offload_param": {"device": "moon"}})
    assert refused is not None, "DeepSpeedZeroConfig no longer validates"
    assert refused[0] == "offload_param.device"


@pytest.mark.parametrize("stage", STAGES)
def test_a_cut_weight_knows_its_whole_shape(stage: int) -> None:
    engine = stepped(stage)
    for name, parameter in engine.module.named_parameters():
        assert compat.is_cut(parameter) == (stage == 3), "ZeRO-3's weights no longer carry `ds_id`, or others do"
        wanted = (5, 3) if name.endswith("weight") else (5,)
        assert tuple(compat.whole_shape(parameter)) == wanted, "ZeRO-3's weights no longer carry `ds_shape`"


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_has_these_files_and_is_written_by_us(stage: int, tmp_path: Path) -> None:
    engine, handed = stepped(stage), {}
    own = engine._engine.checkpoint_engine
    engine.save(str(tmp_path), lambda state, path: handed.setdefault(str(Path(path).relative_to(tmp_path)), state))
    assert sorted(handed) == sorted(engine.shards()), "DeepSpeed names or cuts its checkpoints otherwise"
    assert engine._engine.checkpoint_engine is own
    assert not list(tmp_path.rglob("*.pt")), "DeepSpeed writes past `checkpoint_engine.save`"
    assert all(name.startswith(TAG) for name in handed)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_shards_are_found_by_weight(stage: int) -> None:
    """Each weight stands in its flat shard at the place that is said, and so do its moments."""
    engine = stepped(stage)
    optimiser = engine._engine.optimizer
    whole = engine.whole()
    state = compat.inner_state(optimiser)
    for name, parameter in engine.module.named_parameters():
        place = compat.place_of(parameter, optimiser, stage, rank=0)
        assert place is not None
        assert place.first == 0
        part = slice(place.start, place.start + place.size)
        for key in ("weight", *MOMENTS):
            flat = place.flat.detach() if key == "weight" else state[place.flat][key]
            value = whole[name][key].flatten()
            assert torch.equal(flat[part][: len(value)].cpu(), value), f"ZeRO {stage} keeps {key} of {name} elsewhere"


@pytest.mark.parametrize("stage", [2, 3])
def test_a_second_backward_pass_adds(stage: int) -> None:
    """Without a forward pass between them, and reduced after each: twice the gradient, so the same norm times two."""
    norms = []
    for times in (1, 2):
        engine = stepped(stage, reduce="chunk", clip=0.0)
        losses = [engine.embed(torch.ones(2, 3)) for _ in range(times)]
        with engine.accumulate():
            for number, loss in enumerate(losses, 1):
                engine.backward(loss, last=number == times)
        norms.append(engine.step(1e-2))
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-5), "`clear_backward_seen_flag` no longer does what it did"


def test_nothing_is_compiled_at_the_start() -> None:
    """The list of ops that DeepSpeed's communication looks at, by this name."""
    import deepspeed
    from deepspeed.ops.op_builder.builder import OpBuilder

    assert isinstance(deepspeed.ops.__compatible_ops__, dict), "deepspeed.ops.__compatible_ops__ is gone"
    assert OpBuilder is not None
    compat.compile_nothing()
    assert deepspeed.ops.__compatible_ops__ == {}
