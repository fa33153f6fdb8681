"""A grid of trainings at equal examples seen, by Ray Tune; each trial is an artifact, so a killed sweep resumes by trial.

A trial is a function trainable that starts its own Ray Train workers. It reserves next to nothing for itself: a driver that
held a CPU would starve the workers it waits for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest, digests_of
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import BUILDING, read_manifest
from cpt_ray.compat.ray import unwrapped
from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import absolute
from cpt_ray.sweep.options import SweepOptions, Trial, trials
from cpt_ray.train.loop import train_model
from cpt_ray.train.metrics import METRICS, OnMetrics, read_metrics
from cpt_ray.train.options import HeldoutMetric, TrainOptions, merit

log = logging.getLogger("cpt_ray")

TRIAL = Stage("trial", version=3, unit="steps", reads=("x_ids", "y_ids"))
SWEEP = Stage("sweep", version=2, unit="trials", reads=("x", "y"))

DRIVER_MEMORY = 256 << 20
"""Bytes that a trial's own driver asks for. Some resource it must ask for, and with a share of a CPU its workers would not
fit a machine that has just enough for them."""


@dataclass(frozen=True)
class TrialResult:
    """One trained point: parameters, metrics by step in order, the last value of the sweep's metric, seconds, folder."""

    trial: Trial
    params: dict[str, float]
    metrics: list[dict[str, float]]
    score: float
    seconds: float
    folder: str


class Watch(Protocol):
    """Who is told of trials, in this process, as they begin and end; what it does may take no time."""

    def began(self, trial: Trial, identity: str, metrics: str) -> None:
        """`metrics` is the growing file of the trial's metrics by step."""

    def ended(self, trial: Trial, error: str) -> None:
        """`error` is empty where the trial is finished."""


class TrialsFailed(UserError):
    """Some trials failed; the others are finished and kept. `results` are theirs, best first."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", results: Sequence[TrialResult] = ()) -> None:
        super().__init__(what, where=where, fix=fix)
        self.results = list(results)


def run_sweep(
    options: SweepOptions,
    train: TrainOptions,
    model: ModelOptions,
    *,
    orders: Mapping[int, str],
    heldout: str,
    out: str,
    inputs: Mapping[str, str | Manifest],
    tokenizer: str | None = None,
    on_metrics: Callable[[Trial], OnMetrics | None] | None = None,
    watch: Watch | None = None,
    pairs: str | None = None,
) -> list[TrialResult]:
    """Train every trial that has not been trained, and return all, best first. TrialsFailed, with the results of the
    others, where some could not be; the others are trained all the same.

    `orders` gives the published order of each batch size; `inputs` names what else identifies a trial: the initial
    weights by their content, since a path says nothing of it.
    `on_metrics(trial)` makes the callback of a trial, in this process; the callback goes to the trial's rank 0.
    """
    points = trials(options)
    # Tune's trials have working directories of their own.
    if model.init != "new":
        model = model.model_copy(update={"init": absolute(model.init)})
    tokenizer = None if tokenizer is None else absolute(tokenizer)
    for size in options.batch_sizes:
        if size not in orders:
            raise UserError(f"no order of batches of {size:,}", where="batch_sizes", fix="materialise it")
    jobs = []
    for trial in points:
        settings = train.model_copy(
            update={"temperature": trial.temperature, "steps": trial.steps, "checkpoint_every": trial.steps}
        )
        given = {**inputs, "batches": read_manifest(orders[trial.batch_size]), "heldout": read_manifest(heldout)}
        job = _Job(
            trial=trial,
            train=settings,
            model=model,
            batches=str(Path(orders[trial.batch_size]).absolute()),
            heldout=str(Path(heldout).absolute()),
            tokenizer=tokenizer,
            folder=str(Path(out, trial.name).absolute()),
            inputs=digests_of(given),
            on_metrics=on_metrics(trial) if on_metrics else None,
            pairs=None if pairs is None else str(Path(pairs).absolute()),
        )
        if not _standing(job):
            jobs.append(job)
    failed: dict[Trial, str] = {}
    if jobs:
        log.info("sweep: %d of %d trials to train", len(jobs), len(points))
        told = _Told({job.trial.name: job for job in jobs}, watch, failed)
        if train.workers == 0:
            _one_by_one(jobs, told)
        else:
            _tune(jobs, options, str(Path(out).absolute()), told)
    results = [_result(trial, str(Path(out, trial.name)), options.metric) for trial in points if trial not in failed]
    results.sort(key=lambda result: (-merit(options.metric, result.score), result.trial.name))
    if failed:
        raise TrialsFailed(
            f"{len(failed)} of {len(points)} trials failed:\n"
            + "\n".join(f"  {trial.name}: {error}" for trial, error in failed.items()),
            where="sweep",
            fix="the finished ones are kept; the same command tries the others again",
            results=results,
        )
    return results


@dataclass(frozen=True)
class _Job:
    trial: Trial
    train: TrainOptions
    model: ModelOptions
    batches: str
    heldout: str
    tokenizer: str | None
    folder: str
    inputs: dict[str, str]
    on_metrics: OnMetrics | None
    pairs: str | None = None

    @property
    def metrics(self) -> str:
        """Where they grow while the trial trains."""
        return os.path.join(f"{self.folder}{BUILDING}", METRICS)

    def identity(self) -> str:
        with self.build() as work:
            return str(work.identity)

    def build(self) -> Any:
        params = {"train": self.train.result(), "model": self.model.result()}
        return TRIAL.build(self.folder, params=params, inputs=self.inputs)


def _standing(job: _Job) -> bool:
    with job.build() as work:
        return bool(work.done)


def _train(job: _Job) -> None:
    with job.build() as work:
        if work.done:
            return
        train_model(
            job.train,
            job.model,
            batches=job.batches,
            heldout=job.heldout,
            tokenizer=job.tokenizer,
            out=work.path,
            scratch=work.scratch,
            on_metrics=job.on_metrics,
            where="train",
            pairs=job.pairs,
        )
        work.publish(Ledger.of("steps", read=job.trial.steps, kept=job.trial.steps), rows=job.trial.steps)


class _Told:
    """Passes on what becomes of the trials, and keeps what failed."""

    def __init__(self, jobs: Mapping[str, _Job], watch: Watch | None, failed: dict[Trial, str]) -> None:
        self._jobs, self._watch, self.failed = jobs, watch, failed
        self._identities = {name: job.identity() for name, job in jobs.items()} if watch else {}

    def began(self, name: str) -> None:
        if self._watch:
            self._watch.began(self._jobs[name].trial, self._identities[name], self._jobs[name].metrics)

    def ended(self, name: str, error: str = "") -> None:
        if error:
            self.failed[self._jobs[name].trial] = error
            log.warning("sweep: %s failed: %s", name, error)
        if self._watch:
            self._watch.ended(self._jobs[name].trial, error)


def _one_by_one(jobs: Sequence[_Job], told: _Told) -> None:
    """In this process."""
    for job in jobs:
        told.began(job.trial.name)
        try:
            _train(job)
        except Exception as error:  # noqa: BLE001 - the others are trained, and all that failed is raised at the end
            told.ended(job.trial.name, _words(error))
        else:
            told.ended(job.trial.name)


def _tune(jobs: list[_Job], options: SweepOptions, out: str, told: _Told) -> None:
    """Train `jobs` as trials of Ray Tune."""
    # Its own box, and advice on TensorBoard, come even with verbose=0 unless the older output is chosen.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    from ray import tune

    by_name = {job.trial.name: job for job in jobs}

    def trainable(config: dict[str, str]) -> None:
        job = by_name[config["trial"]]
        try:
            _train(job)
        except UserError as error:
            tune.report({"error": _words(error)})
            return
        tune.report({options.metric: _result(job.trial, job.folder, options.metric).score})

    class Pass(tune.Callback):
        def __reduce__(self) -> Any:  # Tune keeps a copy on disk, which nobody reads
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            told.began(trial.config["trial"])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            told.ended(trial.config["trial"], str((trial.last_result or {}).get("error", "")))

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            told.ended(trial.config["trial"], _words(trial.get_error() or RuntimeError("it died")))

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"memory": DRIVER_MEMORY}),
        param_space={"trial": tune.grid_search(list(by_name))},
        tune_config=tune.TuneConfig(max_concurrent_trials=options.concurrent),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(Path(out, "_ray").absolute()), verbose=0, callbacks=[Pass()]
        ),
    )
    tuner.fit()
    for job in jobs:
        if job.trial not in told.failed and not _standing(job):
            told.ended(job.trial.name, "it was not finished")


def _words(error: BaseException) -> str:
    """What failed, on one line: a UserError's own words, else the kind and message at the bottom of what Ray wrapped."""
    if isinstance(error, UserError):
        return "; ".join(line.strip() for line in str(error).splitlines())
    error = unwrapped(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def _result(trial: Trial, folder: str, metric: HeldoutMetric) -> TrialResult:
    manifest = read_manifest(folder)
    metrics = read_metrics(str(Path(folder, METRICS)))
    return TrialResult(
        trial=trial,
        params={"batch_size": trial.batch_size, "temperature": trial.temperature},
        metrics=metrics,
        score=next(row[metric] for row in reversed(metrics) if metric in row),
        seconds=manifest.seconds,
        folder=folder,
    )
