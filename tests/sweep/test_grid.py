"""The sweep: equal examples for all, finished trials are never trained again."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.batches import build_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.sweep.grid import Trial, TrialsFailed, run_sweep, trials
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.train.options import TrainOptions

SMALL = ModelOptions(hidden_size=16, layers=1, heads=2, feedforward=32, context=32)
TRAIN = TrainOptions(workers=0, engine="reference", precision="fp32")
SWEEP = SweepOptions(batch_sizes=[8, 16], temperatures=[0.05, 0.5], examples=32)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    texts = [hashlib.md5(str(i).encode()).hexdigest()[:8] for i in range(120)]
    number = pa.array(range(120), pa.uint64())
    pairs = pa.table(
        {"pair_id": texts, "source": ["toy"] * 120, "x": texts, "y": texts}
        | dict.fromkeys(("x_hash", "y_hash", "cluster"), number)
    )
    orders = {size: str(tmp_path / f"batches-{size}") for size in SWEEP.batch_sizes}
    for size, path in orders.items():
        options = BatchOptions(batch_size=size, steps=SWEEP.examples // size, max_x_tokens=8, max_y_tokens=8)
        build_batches(path, pairs, listed(lambda rows: [list(row.encode()) for row in rows]), options, {})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={chr(i): i for i in range(128)}, merges=[])), eos_token="a"
    )
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return {
        "orders": orders,
        "heldout": orders[16],
        "out": str(tmp_path / "sweep"),
        "inputs": {"initial": "digest"},
        "tokenizer": str(tmp_path / "tokenizer"),
    }


def test_every_trial_sees_equally_many_examples() -> None:
    assert {trial.batch_size * trial.steps for trial in trials(SWEEP)} == {32}
    assert len({trial.name for trial in trials(SWEEP)}) == 4
    with pytest.raises(UserError, match="multiple"):
        trials(SWEEP.model_copy(update={"batch_sizes": [8, 24]}))


def test_a_sweep_goes_on_by_trial(given: dict[str, Any]) -> None:
    """Killed in the third trial, it trains that one and the fourth when called again, and then none; best comes first."""
    trained: list[str] = []

    def report(trial: Trial) -> Any:
        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            trained.append(trial.name)
            if len(set(trained)) == 3:
                raise KeyboardInterrupt

        return on_metrics

    with pytest.raises(KeyboardInterrupt):
        run_sweep(SWEEP, TRAIN, SMALL, **given, on_metrics=report)
    first_two = list(dict.fromkeys(trained))[:2]
    trained.clear()
    results = run_sweep(
        SWEEP, TRAIN, SMALL, **given, on_metrics=lambda trial: lambda step, _: trained.append(trial.name)
    )
    assert set(trained) == {trial.name for trial in trials(SWEEP)} - set(first_two)
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)
    assert {result.trial for result in results} == set(trials(SWEEP))
    trained.clear()
    again = run_sweep(SWEEP, TRAIN, SMALL, **given, on_metrics=lambda trial: lambda step, _: trained.append(trial.name))
    assert not trained
    assert again == results


def test_how_and_where_it_runs_trains_nothing_again_and_another_model_does(given: dict[str, Any]) -> None:
    """Of the first weights the content counts, not the path; workers, chunks and folders are no part of a trial."""
    one = SWEEP.model_copy(update={"batch_sizes": [16], "temperatures": [0.1]})
    trained: list[str] = []

    def train(options: TrainOptions, model: ModelOptions, **changes: Any) -> list[str]:
        trained.clear()
        run_sweep(
            one,
            options,
            model,
            **(given | changes),
            on_metrics=lambda trial: lambda step, _: trained.append(trial.name),
        )
        return trained

    assert train(TRAIN, SMALL)
    moved = shutil.move(given["out"], given["out"] + "-moved")
    how = TRAIN.model_copy(update={"threads": 2, "chunk_tokens": 64, "keep_checkpoints": 1})
    elsewhere = SMALL.model_copy(update={"init": "/elsewhere", "attention": "eager"})
    assert not train(how, elsewhere, out=moved)
    assert train(TRAIN, SMALL.model_copy(update={"feedforward": 64}), out=moved)


def test_a_lower_loss_is_the_better_one(given: dict[str, Any]) -> None:
    loss = SWEEP.model_copy(update={"batch_sizes": [16], "metric": "heldout_loss"})
    results = run_sweep(loss, TRAIN, SMALL, **given)
    assert [result.score for result in results] == [result.metrics[-1]["heldout_loss"] for result in results]
    assert results[0].score < results[1].score


def test_a_missing_order_or_metric_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="batch_sizes"):
        run_sweep(SWEEP, TRAIN, SMALL, **(given | {"orders": {8: given["orders"][8]}}))
    with pytest.raises(ValidationError, match="heldout_mrr"):
        SweepOptions(metric="heldout_mr")


class Heard:
    """What a sweep says of its trials."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # it cannot be pickled, no more than what speaks to MLflow
        self.said: list[tuple[str, str]] = []
        self.identities: set[str] = set()

    def began(self, trial: Trial, identity: str, metrics: str) -> None:
        self.said.append(("began", trial.name))
        self.identities.add(identity)
        assert metrics.endswith(f"{trial.name}.building/metrics.jsonl")

    def ended(self, trial: Trial, error: str) -> None:
        self.said.append((error or "ended", trial.name))


def test_a_failed_trial_ends_nothing_and_is_tried_again(given: dict[str, Any]) -> None:
    """The others are trained and their results come with the error; the next call trains the failed one alone."""
    bad = trials(SWEEP)[1]

    def report(trial: Trial) -> Any:
        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            if trial == bad:
                raise ValueError("no luck")

        return on_metrics

    heard = Heard()
    with pytest.raises(TrialsFailed, match="1 of 4 trials failed") as failed:
        run_sweep(SWEEP, TRAIN, SMALL, **given, on_metrics=report, watch=heard)
    assert {result.trial for result in failed.value.results} == set(trials(SWEEP)) - {bad}
    assert f"{bad.name}: ValueError: no luck" in str(failed.value)
    names = [trial.name for trial in trials(SWEEP)]
    told = [
        (word, name) for name in names for word in ("began", "ValueError: no luck" if name == bad.name else "ended")
    ]
    assert heard.said == told
    assert len(heard.identities) == 4
    again = Heard()
    assert len(run_sweep(SWEEP, TRAIN, SMALL, **given, watch=again)) == 4
    assert again.said == [("began", bad.name), ("ended", bad.name)]


@pytest.mark.path
def test_trials_of_tune_are_told_and_it_prints_nothing(
    given: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """On Ray: began and ended of every trial, a failure by its own words, and no box of Tune's on the screen."""
    with connect(ClusterOptions(object_store_mb=128, cpus=2)):
        heard = Heard()
        options = SWEEP.model_copy(update={"batch_sizes": [8, 16], "temperatures": [0.05]})
        train = TRAIN.model_copy(update={"workers": 1, "threads": 1})
        bad = trials(options)[0]
        with pytest.raises(TrialsFailed, match="no luck") as failed:
            run_sweep(options, train, SMALL, **given, watch=heard, on_metrics=lambda t: Unlucky() if t == bad else None)
    assert [result.trial for result in failed.value.results] == [trials(options)[1]]
    assert sorted(word for word, _ in heard.said if word in ("began", "ended")) == ["began", "began", "ended"]
    printed = "".join(capfd.readouterr())
    assert "TensorBoard" not in printed
    assert "Configuration for experiment" not in printed


class Unlucky:
    """A callback that fails in the worker."""

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        raise UserError("no luck")
