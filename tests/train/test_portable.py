"""Another number of workers, another ZeRO stage, another engine: the same batches, and losses equal within rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import make_engine
from cpt_ray.train.loop import ContrastiveJob, contrastive
from cpt_ray.train.metrics import METRICS, read_metrics
from cpt_ray.train.options import TrainOptions
from tests.train.ranks import on_ranks

pytestmark = pytest.mark.timeout(1500)  # every group of processes imports DeepSpeed anew
STEPS = 12


class Stop:
    """Raises in rank 0 after a step, as if the process had died there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        if step == self.step:
            raise InterruptedError


def run(corpus: Any, tokenizer: str, folder: Path, workers: int, stage: int, stop: int, portable: bool = True) -> None:
    """Go on in `folder` until step `stop`, on the reference engine or with DeepSpeed on `workers` gloo ranks."""
    options = TrainOptions(
        workers=workers,
        engine="deepspeed" if workers else "reference",
        zero_stage=stage,
        precision="fp32",
        learning_rate=5e-3,
        eps=1e-4,
        checkpoint_every=2,
        chunk_tokens=256,
        portable_checkpoints=portable,
    )
    job = ContrastiveJob(
        options=options,
        batches=corpus["batches"],
        steps=STEPS,
        out=str(folder),
        scratch=str(folder),
        identity="test",
        on_metrics=Stop(stop),
        model=ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64),
        heldout=None,
        tokenizer=tokenizer,
        max_x_tokens=16,
        max_y_tokens=24,
    )
    folder.mkdir(exist_ok=True)
    if workers == 0:
        try:
            contrastive(job, Workers.alone())
        except InterruptedError:
            return
        return
    if stop > STEPS:
        on_ranks(_train, (job,), workers, folder / f"store-{stop}")
        return
    with pytest.raises(mp.ProcessRaisedException, match="InterruptedError"):
        on_ranks(_train, (job,), workers, folder / f"store-{stop}")


def _train(workers: Workers, job: ContrastiveJob) -> None:
    contrastive(job, workers)


def test_a_run_goes_on_however_it_is_sharded(corpus: Any, tokenizer: str, tmp_path: Path) -> None:
    """Two ranks under ZeRO 1, one process, two under ZeRO 2, 3 and 0, one again: each takes up the other's checkpoint."""
    run(corpus, tokenizer, tmp_path / "whole", 0, 0, STEPS + 1)
    moved = tmp_path / "moved"
    for workers, stage, stop in ((2, 1, 3), (0, 0, 5), (2, 2, 7), (2, 3, 9), (2, 0, 11), (0, 0, STEPS + 1)):
        run(corpus, tokenizer, moved, workers, stage, stop)
        assert read_metrics(str(moved / METRICS))[-1]["step"] == min(stop, STEPS)
    expected, got = (read_metrics(str(tmp_path / name / METRICS)) for name in ("whole", "moved"))
    assert [row["step"] for row in got] == list(range(1, STEPS + 1))
    for one, other in zip(expected, got, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=2e-5)
        assert other["temperature"] == pytest.approx(one["temperature"], abs=1e-6)
    assert expected[-1]["loss"] < expected[0]["loss"] - 0.3


def test_without_portable_checkpoints_another_sharding_is_refused(corpus: Any, tokenizer: str, tmp_path: Path) -> None:
    """The error names what differs and how to set it back."""
    run(corpus, tokenizer, tmp_path / "run", 0, 0, 5, portable=False)
    for marker in (tmp_path / "run" / "checkpoints").glob("*/complete.json"):
        marker.write_text(marker.read_text().replace('"zero_stage": 0', '"zero_stage": 2'))
    with pytest.raises(UserError, match="zero_stage=2") as caught:
        run(corpus, tokenizer, tmp_path / "run", 0, 0, STEPS + 1, portable=False)
    assert "set zero_stage back" in caught.value.fix
    assert "portable_checkpoints" in caught.value.fix


@pytest.mark.parametrize("stage", [2, 3])
def test_fp32_masters_of_bf16_weights_are_taken_over(stage: int, tmp_path: Path) -> None:
    """They are what the other sharding had, not its weights rounded to bf16."""
    on_ranks(_takes_over, (stage,), 2, tmp_path / "store")


def _takes_over(workers: Workers, stage: int) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3))
    given = {
        name: {key: torch.rand_like(value) for key in ("weight", "exp_avg", "exp_avg_sq")}
        for name, value in module.named_parameters()
    }
    for name, value in module.named_parameters():
        value.data.copy_(given[name]["weight"])
    options = TrainOptions(workers=2, zero_stage=stage, precision="bf16_weights")
    engine = make_engine(module, options, workers)
    engine.take_over(given, 4)
    found = engine.export()
    if workers.rank == 0:
        for name, values in given.items():
            assert torch.equal(found[name], values["weight"]), name
