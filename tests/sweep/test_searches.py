"""ASHA stops by examples seen; Optuna learns from what is finished: as they are, without Ray and on it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.artifacts import read_manifest
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.sweep.axes import Range
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.run import TrialsFailed, run_sweep
from cpt_ray.sweep.searches import Goal
from cpt_ray.sweep.searches.asha import ASHA
from cpt_ray.sweep.searches.optuna import Optuna
from cpt_ray.sweep.trials import Setting, Trial
from tests.sweep.toy import BATCHES, COMMON, SMALL, TRAIN, Heard, Unlucky, materialised

AXES: Any = {"train.learning_rate": Range(low=1e-4, high=1e-1, log=True), "train.loss": [{"kind": "infonce"}, "other"]}
RATES = {"train": {"learning_rate": {"low": 1.0e-4, "high": 1.0e-1, "log": True}}}


def test_optuna_is_told_what_is_finished_and_begins_with_what_was_begun() -> None:
    """A list's values come back as they were given, whatever they are, and a trained point is never the first proposed."""
    search = Optuna(trials=6)
    finished = [({"train.learning_rate": 0.01, "train.loss": "other"}, 0.5)]
    begun = [{"train.learning_rate": 0.02, "train.loss": {"kind": "infonce"}}]
    told = search.tune(Goal(AXES, "heldout_mrr", "max", 64, finished, begun))["search_alg"]
    first = search.values(AXES, told.suggest("1"))
    assert first == begun[0]
    then = [search.values(AXES, told.suggest(str(number))) for number in range(2, 6)]
    assert all(1e-4 <= point["train.learning_rate"] <= 1e-1 for point in then)
    assert all(point["train.loss"] in AXES["train.loss"] for point in then)
    assert all(point not in then for point, _ in finished)
    again = search.tune(Goal(AXES, "heldout_mrr", "max", 64, [*finished, (first, 0.2), (then[0], 0.1)]))["search_alg"]
    assert search.values(AXES, again.suggest("1")) != then[0]
    told.on_trial_result("1", {"heldout_mrr": math.nan, "training_iteration": 1})
    told.on_trial_complete("1", {"heldout_mrr": math.nan})  # a failed trial


def test_a_search_that_is_on_ray_alone_says_so(given: dict[str, Any]) -> None:
    for search in (ASHA(trials=2), Optuna(trials=2)):
        with pytest.raises(UserError, match="runs on Ray"):
            run_sweep(SweepOptions(over=RATES, examples=32, search=search), COMMON, **given)


def on_ray(**changes: Any) -> Setting:
    return Setting(TRAIN.model_copy(update={"workers": 1, "threads": 1, **changes}), BATCHES, SMALL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_optuna_goes_on_where_it_was(given: dict[str, Any]) -> None:
    """Finished trials are told and not trained again, a failed one is tried again with its values, and there are as many
    trials as were asked for."""
    options = SweepOptions(over=RATES, examples=32, search=Optuna(trials=4), concurrent=2)
    with connect(ClusterOptions(object_store_mb=128, cpus=2)):

        def unlucky(trial: Trial) -> Any:  # two of the four that seed 0 proposes
            return Unlucky() if trial.setting.train.learning_rate > 0.005 else None

        first = Heard()
        with pytest.raises(TrialsFailed) as failed:
            run_sweep(options, on_ray(), **given, watch=first, on_metrics=unlucky)
        done = {result.trial.name: result for result in failed.value.results}
        lost = {name for word, name in first.said if word not in ("began", "ended")}
        assert done
        assert lost
        assert len(done) + len(lost) == 4
        again = Heard()
        results = run_sweep(options, on_ray(), **given, watch=again)
        assert {name for _, name in again.said} == lost
        assert {result.trial.name for result in results} == {*done, *lost}
        assert all(result.seconds == done[result.trial.name].seconds for result in results if result.trial.name in done)
        more = Heard()
        larger = options.model_copy(update={"search": Optuna(trials=5)})
        assert len(run_sweep(larger, on_ray(), **given, watch=more)) == 5
        assert len({name for _, name in more.said}) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_asha_stops_the_worse_by_examples_and_repeats_none(tmp_path: Path) -> None:
    """Stopped trials are artifacts of what they saw; called again, nothing is trained; of more trials the new ones alone."""
    given = materialised(tmp_path, 2048)
    over = {"train": {"learning_rate": [1e-9, 1e-9 * 2, 1e-9 * 3, 1e-2, 2e-2, 3e-2]}}
    search = ASHA(trials=6, reduction=2, first=16)
    options = SweepOptions(over=over, examples=2048, search=search, concurrent=2)
    with connect(ClusterOptions(object_store_mb=128, cpus=2)):
        common = on_ray(evaluate_every=1)
        results = run_sweep(options, common, **given)
        assert len(results) == 6
        stopped = [result for result in results if result.stopped]
        assert stopped
        assert not results[0].stopped
        for result in results:
            manifest = read_manifest(result.folder)
            assert result.examples == manifest.rows * 16
            assert manifest.ledger["steps"]["dropped"].get("stopped", 0) == 128 - manifest.rows
            assert (result.examples < 2048) == result.stopped
            assert Path(result.folder, "model.safetensors").exists() != result.stopped
        again = Heard()
        assert run_sweep(options, common, **given, watch=again) == results
        assert again.said == []
        kept = {result.trial.name for result in results}
        fewer = options.model_copy(update={"search": ASHA(trials=5, reduction=2, first=16)})
        assert {result.trial.name for result in run_sweep(fewer, common, **given, watch=again)} < kept
        assert again.said == []
