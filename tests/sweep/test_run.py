"""The sweep: equal examples for all, finished trials are never trained again."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.run import TrialsFailed, _Job, _Notes, _Trials, run_sweep
from cpt_ray.sweep.trials import Setting, Trial, known_trials
from cpt_ray.train.options import TrainOptions
from tests.sweep.toy import BATCHES, COMMON, SIZES, SMALL, SWEEP, TRAIN, TRIALS, Heard, Unlucky, materialised


def test_every_trial_sees_equally_many_examples() -> None:
    assert {trial.batch_size * trial.steps for trial in TRIALS} == {32}
    assert len({trial.name for trial in TRIALS}) == 4
    with pytest.raises(UserError, match="multiple"):
        known_trials(SWEEP.model_copy(update={"over": {"batches": {"batch_size": [8, 24]}}}), COMMON)


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
        run_sweep(SWEEP, COMMON, **given, on_metrics=report)
    first_two = list(dict.fromkeys(trained))[:2]
    trained.clear()
    results = run_sweep(SWEEP, COMMON, **given, on_metrics=lambda trial: lambda step, _: trained.append(trial.name))
    assert set(trained) == {trial.name for trial in TRIALS} - set(first_two)
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)
    assert {result.trial.name for result in results} == {trial.name for trial in TRIALS}
    trained.clear()
    again = run_sweep(SWEEP, COMMON, **given, on_metrics=lambda trial: lambda step, _: trained.append(trial.name))
    assert not trained
    assert again == results


def test_a_training_that_is_asked_to_end_does_so_at_its_next_step(given: dict[str, Any]) -> None:
    """As a scheduler's stop asks it; what a killed sweep left of asking stops no trial."""
    asked = Path(given["out"], f"{TRIALS[1].name}.stop")
    steps: list[int] = []

    def report(trial: Trial) -> Any:
        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            steps.append(step)
            asked.touch()

        return on_metrics if trial.name == TRIALS[1].name else None

    with pytest.raises(TrialsFailed, match="stopped") as failed:
        run_sweep(SWEEP, COMMON, **given, on_metrics=report)
    assert steps == [0]
    assert {result.trial.name for result in failed.value.results} == {trial.name for trial in TRIALS} - {TRIALS[1].name}
    heard = Heard()
    assert len(run_sweep(SWEEP, COMMON, **given, watch=heard)) == len(TRIALS)
    assert {name for _, name in heard.said} == {TRIALS[1].name}
    assert not asked.exists()


def test_a_finished_sweep_takes_more_trials_and_more_examples(given: dict[str, Any], tmp_path: Path) -> None:
    """A further temperature trains its trials alone. Twice the examples: every trial goes on after its last step, and its
    metrics are those of before, continued."""
    told: list[tuple[str, int]] = []
    told_by = {"on_metrics": lambda trial: lambda step, _: told.append((trial.name, step))}
    common = Setting(TRAIN.model_copy(update={"schedule": "constant", "warmup": 0.0}), BATCHES, SMALL)
    run_sweep(SWEEP, common, **given)
    more = SWEEP.model_copy(update={"over": {"batches": SIZES, "train": {"temperature": [0.05, 0.5, 0.1]}}})
    first = {one.trial.name: one.metrics for one in run_sweep(more, common, **given, **told_by)}
    assert {name for name, _ in told} == {"batch_size-8-temperature-0.1", "batch_size-16-temperature-0.1"}
    told.clear()
    longer, further = more.model_copy(update={"examples": 64}), materialised(tmp_path, 64)
    other = Setting(common.train.model_copy(update={"learning_rate": 1e-4}), BATCHES, SMALL)
    with pytest.raises(UserError, match=r"4 steps .* cannot go on to 8.*train.learning_rate"):
        run_sweep(longer, other, **further)
    results = run_sweep(longer, common, **further, **told_by)
    for one in results:
        before = 32 // one.trial.batch_size
        assert [step for name, step in told if name == one.trial.name] == list(range(before + 1, 2 * before + 1))
        assert one.metrics[: before + 1] == first[one.trial.name]


def test_how_and_where_it_runs_trains_nothing_again_and_another_model_does(given: dict[str, Any]) -> None:
    """Of the first weights the content counts, not the path; workers, chunks and folders are no part of a trial."""
    one = SWEEP.model_copy(update={"over": {"train": {"temperature": [0.1]}}})
    trained: list[str] = []

    def train(options: TrainOptions, model: ModelOptions, **changes: Any) -> list[str]:
        trained.clear()
        run_sweep(
            one,
            Setting(options, BATCHES, model),
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
    loss = SWEEP.model_copy(update={"over": {"train": {"temperature": [0.05, 0.5]}}, "metric": "heldout_loss"})
    results = run_sweep(loss, COMMON, **given)
    assert [result.score for result in results] == [result.metrics[-1]["heldout_loss"] for result in results]
    assert results[0].score < results[1].score


def test_a_missing_order_or_metric_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no order of batches batches-batch_size-8"):
        run_sweep(SWEEP, COMMON, **(given | {"orders": {"batches": given["heldout"]}}))
    with pytest.raises(ValidationError, match="heldout_mrr"):
        SweepOptions(metric="heldout_mr")


def test_a_failed_trial_ends_nothing_and_is_tried_again(given: dict[str, Any]) -> None:
    """The others are trained and their results come with the error; the next call trains the failed one alone."""
    bad = TRIALS[1].name

    def report(trial: Trial) -> Any:
        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            if trial.name == bad:
                raise ValueError("no luck")

        return on_metrics

    heard = Heard()
    with pytest.raises(TrialsFailed, match="1 of 4 trials failed") as failed:
        run_sweep(SWEEP, COMMON, **given, on_metrics=report, watch=heard)
    names = [trial.name for trial in TRIALS]
    assert {result.trial.name for result in failed.value.results} == set(names) - {bad}
    assert f"{bad}: ValueError: no luck" in str(failed.value)
    told = [(word, name) for name in names for word in ("began", "ValueError: no luck" if name == bad else "ended")]
    assert heard.said == told
    assert len(heard.identities) == 4
    again = Heard()
    assert len(run_sweep(SWEEP, COMMON, **given, watch=again)) == 4
    assert again.said == [("began", bad), ("ended", bad)]


def test_notes_go_on_after_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    notes = _Notes(tmp_path / "notes.jsonl")
    notes.add({"begun": {"train.seed": 1}})
    with (tmp_path / "notes.jsonl").open("a") as file:
        file.write('{"begun": {"train.se')
    assert notes.all("begun") == [{"train.seed": 1}]
    notes.add({"begun": {"train.seed": 2}})
    assert notes.all("begun") == [{"train.seed": 1}, {"train.seed": 2}]


def test_a_point_that_is_proposed_again_while_it_is_trained_is_one_trial(tmp_path: Path) -> None:
    """The second waits for the first, and gives up before that one has finished."""
    trial, heard = TRIALS[0], Heard()
    metrics = f"{trial.name}.building/metrics.jsonl"
    job = cast(_Job, SimpleNamespace(trial=trial, done=False, identity="its own", metrics=metrics))
    trials = _Trials(lambda _: job, _Notes(tmp_path / "notes.jsonl"), heard)
    trials.began(trial.values, "first")
    trials.began(trial.values, "second")
    trials.ended(trial.values, "second", error="another process is building this artifact")
    assert heard.said == [("began", trial.name)]
    trials.ended(trial.values, "first", examples=trial.examples)
    assert heard.said == [("began", trial.name), ("ended", trial.name)]
    assert not trials.failed


@pytest.mark.path
def test_trials_of_tune_are_told_and_it_prints_nothing(
    given: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """On Ray: began and ended of every trial, a failure by its own words, and no box of Tune's on the screen."""
    with connect(ClusterOptions(object_store_mb=128, cpus=2)):
        heard = Heard()
        options = SWEEP.model_copy(update={"over": {"batches": SIZES}})
        common = Setting(TRAIN.model_copy(update={"workers": 1, "threads": 1}), BATCHES, SMALL)
        bad, good = (trial.name for trial in known_trials(options, common))
        with pytest.raises(TrialsFailed, match="no luck") as failed:
            run_sweep(options, common, **given, watch=heard, on_metrics=lambda t: Unlucky() if t.name == bad else None)
    assert [result.trial.name for result in failed.value.results] == [good]
    assert sorted(word for word, _ in heard.said if word in ("began", "ended")) == ["began", "began", "ended"]
    printed = "".join(capfd.readouterr())
    assert "TensorBoard" not in printed
    assert "Configuration for experiment" not in printed
