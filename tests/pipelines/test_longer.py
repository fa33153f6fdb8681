"""What is finished goes on when more of it is asked for: a pretraining, a training through Ray."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from safetensors.torch import load_file

from cpt_ray.artifacts import Ledger, Manifest, build, parquet, read_manifest
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions, TokenizerOptions
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.train.metrics import read_metrics
from cpt_ray.train.options import PackOptions, PretrainOptions, TrainOptions
from cpt_ray.train.pretrain import pretrain as pretrain_weights
from pipelines import pretrain, train
from pipelines.tracked import Tracked, TrackingOptions
from tests.pipelines.test_finetuning import model, pairs  # noqa: F401 - fixtures

SMALL = ModelOptions(hidden_size=32, layers=1, heads=2, feedforward=64, context=64)
CONSTANT: dict[str, Any] = {"schedule": "constant", "warmup": 0.0, "precision": "fp32"}
ALONE: dict[str, Any] = {"workers": 0, "engine": "reference"}


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    path = str(tmp_path / "corpus")
    texts = [f"text {number} of {number * number} words, and {number % 7} more" for number in range(400)]
    with build(path, step="corpus", version=1, params={}) as work:
        rows = pa.table({"id": [f"{number:03d}" for number in range(400)], "text": texts})
        parquet.write_table(f"{work.path}/part-00000.parquet", rows)
        work.publish(Ledger.of("texts", read=400, kept=400), rows=400, schema=rows.schema)
    return path


def pretrained(out: str, corpus: str, windows: int, **changes: Any) -> Manifest:
    """`initial` under `out`, made of so many batches of windows."""
    steps = pretrain.Steps(
        model=SMALL,
        tokenizer=TokenizerOptions(vocabulary=300),
        windows=PackOptions(context=16, batch_size=8, steps=windows),
        pretrain=PretrainOptions(**{**ALONE, **CONSTANT, **changes}),
    )
    tokenizer, packed, initial = (f"{out}/{name}" for name in ("tokenizer", "windows", "initial"))
    pretrain.make_tokenizer(tokenizer, corpus, steps.tokenizer, steps.tokenizer_texts)
    pretrain.make_windows(packed, corpus, tokenizer, steps.windows, new=True)
    with Tracked(TrackingOptions(), out, "pretrain", out, steps) as tracked:
        return pretrain.make_weights(initial, packed, tokenizer, steps, tracked)


def losses(folder: str) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read_metrics(f"{folder}/metrics.jsonl") if "loss" in row]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are trained."""
    steps: list[int] = []
    heard = functools.partial(pretrain_weights, on_metrics=lambda step, _: steps.append(step))
    monkeypatch.setattr(pretrain, "pretrain", heard)
    return steps


def test_a_finished_pretraining_goes_on_with_more_steps(corpus: str, tmp_path: Path, told: list[int]) -> None:
    """Of the same windows, 6 steps that become 12 are 12 at once, to the bit; then it is done."""
    whole, out = str(tmp_path / "whole"), str(tmp_path / "out")
    pretrained(whole, corpus, 12)
    pretrained(out, corpus, 12, steps=6)
    told.clear()
    last = pretrained(out, corpus, 12, steps=12)
    assert told == list(range(7, 13))
    assert losses(f"{out}/initial") == losses(f"{whole}/initial")
    got, wanted = (load_file(f"{folder}/initial/model.safetensors") for folder in (out, whole))
    assert got.keys() == wanted.keys()
    assert all((weight == wanted[name]).all() for name, weight in got.items())
    assert pretrained(out, corpus, 12, steps=12) == last


def test_a_finished_pretraining_goes_on_with_more_windows(corpus: str, tmp_path: Path, told: list[int]) -> None:
    """Also with precision=auto, in the precision that it had; another rate with it is refused by name."""
    out = str(tmp_path / "out")
    pretrained(out, corpus, 6, precision="bf16")
    first = losses(f"{out}/initial")
    with pytest.raises(UserError, match=r"6 steps .* cannot go on to 12.*pretrain.learning_rate") as caught:
        pretrained(out, corpus, 12, precision="bf16", learning_rate=1e-4)
    assert caught.value.where == f"{out}/initial.checkpoint"
    told.clear()
    made = pretrained(out, corpus, 12, precision="auto")
    assert told == list(range(7, 13))
    assert made.params["pretrain"]["precision"] == "bf16"
    assert made.extra["steps"] == 12
    assert losses(f"{out}/initial")[: len(first)] == first


@pytest.mark.slow
def test_trainings_through_ray_go_on_with_more_steps(
    corpus: str,
    pairs: str,  # noqa: F811
    model: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    """On two workers under ZeRO-2: of what was 4 steps and becomes 8 the first four stay, and the rest is that of 8 at once."""
    ray = {"workers": 2, "engine": "deepspeed", "checkpoint_every": 2}

    def trained(out: str, count: int) -> Manifest:
        steps = train.Steps(
            batches=BatchOptions(batch_size=8, steps=count, max_x_tokens=16, max_y_tokens=24),
            train=TrainOptions(**{**CONSTANT, **ray}),
            heldout_pairs=16,
        )
        with Tracked(TrackingOptions(), out, "train", out, steps) as tracked:
            flow = train.flow(out, "model", pairs, ModelOptions(init=model), steps, tracked)
            return [wanted.make() for wanted in flow][-1]

    with connect(ClusterOptions(object_store_mb=128, cpus=2)):
        for make, name in (
            (trained, "model"),
            (lambda out, count: pretrained(out, corpus, 8, steps=count, **ray), "initial"),
        ):
            whole, out = str(tmp_path / f"whole-{name}"), str(tmp_path / f"out-{name}")
            make(whole, 8)
            make(out, 4)
            before = losses(f"{out}/{name}")
            assert make(out, 8).extra["steps"] == 8
            assert read_manifest(f"{out}/{name}").extra["steps"] == 8
            assert losses(f"{out}/{name}")[: len(before)] == before
            assert losses(f"{out}/{name}") == losses(f"{whole}/{name}")
