"""Trainings at equal examples seen, by Ray Tune; each trial is an artifact, so a killed sweep resumes by trial.

A trial of Tune starts its own Ray Train workers. It reserves next to nothing for itself: a driver that held a CPU would
starve the workers it waits for. No more trials run at a time than have room for all of their workers: Ray Train gives up a
group of workers that waits for minutes.

A trial that a scheduler stops ends its own training, at its next step, before Tune ends its process: what Ray Train has
reserved for workers stays reserved when its driver is killed. It is an artifact too, of its metrics alone. When a sweep goes
on, what stands tells its figures again where Tune's search or scheduler has to know them, and is not trained again. Asked
for more examples, trials that were finished go on (train/continued.py).
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest, digests_of, fingerprint, identity_of
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import BUILDING, IDENTITY, BeingBuilt, read_manifest
from cpt_ray.compat.ray import unwrapped
from cpt_ray.errors import UserError
from cpt_ray.model.weights import absolute, pinned
from cpt_ray.sweep.axes import Values
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.searches import POINT, Goal
from cpt_ray.sweep.trials import Setting, Trial, known_trials, make_trial, some_trials
from cpt_ray.tracking.follow import follow
from cpt_ray.train.continued import KEPT, Course, goes_on, keep, take_up
from cpt_ray.train.loop import train_model
from cpt_ray.train.metrics import METRICS, MetricsFile, OnMetrics, read_metrics
from cpt_ray.train.options import HeldoutMetric, merit
from cpt_ray.train.steps import job_identity

log = logging.getLogger("cpt_ray")

TRIAL = Stage("trial", version=4, unit="steps", reads=("x_ids", "y_ids"))
SWEEP = Stage("sweep", version=3, unit="trials", reads=("x", "y"))

DRIVER_MEMORY = 256 << 20
"""Bytes that a trial's own driver asks for. Some resource it must ask for, and with a share of a CPU its workers would not
fit a machine that has just enough for them."""
ENDING = 60.0
"""Seconds that processes of a trial that was stopped, or whose sweep was killed, may take to end."""
STOP = ".stop"
"""Ending of a file beside a trial that asks its training to end."""
NOTES = "notes.jsonl"


@dataclass(frozen=True)
class TrialResult:
    """One trained point: metrics by step in order, the last value of the sweep's metric, seconds, folder, and whether a
    scheduler stopped it before it had seen all examples."""

    trial: Trial
    metrics: list[dict[str, float]]
    score: float
    seconds: float
    folder: str
    stopped: bool = False

    @property
    def examples(self) -> int:
        """Pairs that it saw."""
        return int(self.metrics[-1]["step"]) * self.trial.batch_size


class Watch(Protocol):
    """Who is told of trials, in this process, as they begin and end; what it does may take no time."""

    def began(self, trial: Trial, identity: str, metrics: str) -> None:
        """`metrics` is the growing file of the trial's metrics by step."""

    def ended(self, trial: Trial, error: str) -> None:
        """`error` is empty where the trial is finished, or was stopped by its scheduler."""


class TrialsFailed(UserError):
    """Some trials failed; the others are finished and kept. `results` are theirs, best first."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", results: Sequence[TrialResult] = ()) -> None:
        super().__init__(what, where=where, fix=fix)
        self.results = list(results)


def run_sweep(
    options: SweepOptions,
    common: Setting,
    *,
    orders: Mapping[str, str],
    heldout: str,
    out: str,
    inputs: Mapping[str, str | Manifest],
    tokenizer: str | None = None,
    on_metrics: Callable[[Trial], OnMetrics | None] | None = None,
    watch: Watch | None = None,
    pairs: str | None = None,
    scratch: str | None = None,
) -> list[TrialResult]:
    """Train every trial that has not been trained, and return all, best first and stopped ones last. TrialsFailed, with the
    results of the others, where some could not be; the others are trained all the same.

    `orders` gives the published order of each name (`trials.orders`); `inputs` names what else identifies a trial: the
    initial weights by their content, since a path says nothing of it.
    `on_metrics(trial)` makes the callback of a trial, in this process; the callback goes to the trial's rank 0.
    `scratch` is a folder of this sweep alone for what it must know of itself when it goes on; `out` without it.
    """
    axes, search = options.axes, options.search
    known = known_trials(options, common)
    model = common.model
    if model.init != "new":  # Tune's trials have working directories of their own
        model = model.model_copy(update={"init": absolute(model.init)})
    common = Setting(common.train, common.batches, model)
    tokenizer = None if tokenizer is None else absolute(tokenizer)
    ordered = {name: str(Path(path).absolute()) for name, path in orders.items()}
    held, folder = str(Path(heldout).absolute()), Path(out).absolute()
    sources = None if pairs is None else str(Path(pairs).absolute())
    held_manifest = read_manifest(heldout)

    def job(values: Values) -> _Job:
        trial = make_trial(values, options, common)
        if trial.order not in ordered:
            raise UserError(f"no order of batches {trial.order}", where="over", fix="materialise it")
        order = read_manifest(ordered[trial.order])
        given = {**inputs, "batches": order, "heldout": held_manifest}
        return _Job(
            trial=trial,
            batches=ordered[trial.order],
            heldout=held,
            tokenizer=tokenizer,
            folder=str(folder / trial.name),
            inputs=digests_of(given),
            metric=options.metric,
            on_metrics=on_metrics(trial) if on_metrics else None,
            course=Course.of(
                trial.steps, TRIAL.version, _params(trial), order, fingerprint(digests_of(inputs)), held_manifest
            ),
            pairs=sources,
        )

    notes = _Notes(Path(scratch or out, NOTES))
    trials = _Trials(job, notes, watch)
    for values in [trial.values for trial in known] or notes.all("begun"):
        trials.take(values)
    trials.publish_stopped()
    waiting = [one for one in trials.jobs.values() if not _standing(one)]
    for one in waiting:
        goes_on(one.course, one.kept)  # says now what a trial could not go on from
    left = len(waiting) + search.count(axes) - len(trials.jobs)
    if left:
        log.info("sweep: %d of %d trials to train", left, search.count(axes))
        finished = [one for one in trials.jobs.values() if one not in waiting]
        plan = search.tune(
            Goal(
                axes=axes,
                metric=options.metric,
                mode="max" if merit(options.metric, 1.0) > 0 else "min",
                examples=options.examples,
                finished=[(one.trial.values, _result(one).score) for one in finished],
                begun=[one.trial.values for one in waiting],
            )
        )
        if common.train.workers:
            # A scheduler judges by the figures of all: those that stand tell theirs again.
            told = [*finished, *waiting] if plan else waiting
            points = [one.trial.values for one in told] if known else []
            _tune(options, common, trials, points, left, plan, str(folder))
        elif plan:
            raise UserError(f"search.kind={search.kind} runs on Ray", where="train.workers", fix="give one or more")
        else:
            _one_by_one(waiting, trials)
    failed = trials.failed
    results = [_result(one) for name, one in trials.jobs.items() if name not in failed]
    results.sort(key=lambda found: (found.stopped, -merit(options.metric, found.score), found.trial.name))
    if failed:
        raise TrialsFailed(
            f"{len(failed)} of {len(trials.jobs)} trials failed:\n"
            + "\n".join(f"  {name}: {error}" for name, error in failed.items()),
            where="sweep",
            fix="the finished ones are kept; the same command tries the others again",
            results=results,
        )
    return results


@dataclass(frozen=True)
class _Job:
    trial: Trial
    batches: str
    heldout: str
    tokenizer: str | None
    folder: str
    inputs: dict[str, str]
    metric: HeldoutMetric
    on_metrics: OnMetrics | None
    course: Course
    pairs: str | None = None

    @property
    def kept(self) -> str:
        """Where its last checkpoint is kept."""
        return self.folder + KEPT

    @property
    def stop(self) -> str:
        """The file whose presence ends its training."""
        return self.folder + STOP

    @property
    def metrics(self) -> str:
        """Where they grow while the trial trains."""
        return os.path.join(f"{self.folder}{BUILDING}", METRICS)

    @property
    def identity(self) -> str:
        return identity_of(TRIAL.name, TRIAL.version, _params(self.trial), self.inputs)

    @property
    def done(self) -> bool:
        """Whether it stands, without a lock."""
        return TRIAL.begun(self.folder, params=_params(self.trial), inputs=self.inputs) == "done"

    def build(self) -> Any:
        return TRIAL.build(self.folder, params=_params(self.trial), inputs=self.inputs)


def _params(trial: Trial) -> dict[str, dict[str, Any]]:
    """What a trial is known by, besides its inputs."""
    # A value may say how alone, which is no part of a result; two trials are two all the same.
    return {"train": trial.setting.train.result(), "model": trial.setting.model.result(), "over": dict(trial.values)}


def _standing(job: _Job) -> bool:
    def done() -> bool:
        with job.build() as work:
            return bool(work.done)

    return bool(_patiently(done))


def _train(job: _Job) -> None:
    setting, steps = job.trial.setting, job.trial.steps
    with job.build() as work:
        if work.done:
            return
        if goes_on(job.course, job.kept):
            take_up(job.kept, work.scratch, work.path, job_identity(read_manifest(job.batches), pinned(setting.model)))
        train_model(
            setting.train,
            setting.model,
            batches=job.batches,
            heldout=job.heldout,
            tokenizer=job.tokenizer,
            out=work.path,
            scratch=work.scratch,
            on_metrics=_UntilStopped(job.stop, job.on_metrics),
            where="train",
            pairs=job.pairs,
        )
        keep(job.course, job.kept, work.scratch, work.path)
        work.publish(Ledger.of("steps", read=steps, kept=steps), rows=steps)


@dataclass(frozen=True)
class _UntilStopped:
    """Metrics as they come, until there is the file `stop`: in a worker, where a UserError ends all of them."""

    stop: str
    then: OnMetrics | None

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        if os.path.exists(self.stop):
            raise UserError("it was stopped", where=self.stop)
        if self.then is not None:
            self.then(step, metrics)


def _publish_stopped(job: _Job, step: int) -> None:
    """What a trial leaves that was stopped after `step` steps: its metrics until then."""

    def publish() -> None:
        with job.build() as work:
            if work.done:
                return
            for file in Path(work.path).iterdir():
                if file.is_file() and file.name not in (METRICS, IDENTITY):
                    file.unlink()
            MetricsFile(os.path.join(work.path, METRICS), step)
            dropped = {"stopped": job.trial.steps - step}
            work.publish(Ledger.of("steps", read=job.trial.steps, kept=step, dropped=dropped), rows=step)

    _patiently(publish)


def _patiently(act: Callable[[], Any]) -> Any:
    """`act`, from which a process that is about to end may still keep the artifact."""
    until = time.monotonic() + ENDING
    while True:
        try:
            return act()
        except BeingBuilt:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


class _Notes:
    """Points that were begun and trials that were stopped, line by line: what no artifact says while the sweep goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, note: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"\n{json.dumps(note)}\n")  # nothing is appended to a line that a kill cut short

    def all(self, key: str) -> list[Any]:
        """The values of `key`, in order; a line that a kill cut short is left out."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        found = [note for line in lines if line and (note := _note(line)) is not None]
        return [note[key] for note in found if key in note]


def _note(line: str) -> dict[str, Any] | None:
    """A line as it was noted; None of one that a kill cut short, which is no JSON."""
    try:
        note: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return note


class _Trials:
    """The trials by name; what becomes of them is noted, and passed on to who watches.

    A search may propose a point again while it is trained. That trial of Tune's waits for the first, and for ENDING at most:
    that it gave up is no failure of the first. `by` tells them apart.
    """

    def __init__(self, make: Callable[[Values], _Job], notes: _Notes, watch: Watch | None) -> None:
        self.make, self._notes, self._watch = make, notes, watch
        self.jobs: dict[str, _Job] = {}
        self.failed: dict[str, str] = {}
        self._going: dict[str, str] = {}

    def take(self, values: Values) -> _Job:
        job = self.make(values)
        return self.jobs.setdefault(job.trial.name, job)

    def began(self, values: Values, by: str = "") -> None:
        """Of one that is to be trained, and is not being trained already."""
        job = self.take(values)
        if job.trial.name in self._going or job.done:
            return
        self._going[job.trial.name] = by
        self._notes.add({"begun": values})
        if self._watch:
            self._watch.began(job.trial, job.identity, job.metrics)

    def ended(self, values: Values, by: str = "", error: str = "", examples: float = math.inf) -> None:
        """`examples` that it told of last: fewer than all where it was stopped."""
        job = self.take(values)
        if self._going.get(job.trial.name) != by:
            return
        del self._going[job.trial.name]
        if error:
            self.failed[job.trial.name] = error
            log.warning("sweep: %s failed: %s", job.trial.name, error)
        elif examples < job.trial.examples and not job.done:
            log.info("sweep: %s is stopped after %d of %d pairs", job.trial.name, examples, job.trial.examples)
            self._notes.add({"stopped": [values, int(examples) // job.trial.batch_size]})
        if self._watch:
            self._watch.ended(job.trial, error)

    def publish_stopped(self) -> None:
        """Let those that were stopped appear as artifacts."""
        for values, step in self._notes.all("stopped"):
            _publish_stopped(self.make(values), step)


def _one_by_one(jobs: Sequence[_Job], trials: _Trials) -> None:
    """In this process."""
    for job in jobs:
        trials.began(job.trial.values)
        Path(job.stop).unlink(missing_ok=True)  # of a sweep that was killed
        try:
            _train(job)
        except Exception as error:  # noqa: BLE001 - the others are trained, and all that failed is raised at the end
            trials.ended(job.trial.values, error=_words(error))
        else:
            trials.ended(job.trial.values)


def _tune(
    options: SweepOptions,
    common: Setting,
    told: _Trials,
    points: Sequence[Values],
    count: int,
    plan: Mapping[str, Any],
    out: str,
) -> None:
    """Train trials of Ray Tune: at `points`, or at `count` points that `plan` finds."""
    # Its own box, and advice on TensorBoard, come even with verbose=0 unless the older output is chosen.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    from ray import tune

    axes, search, metric, make = options.axes, options.search, options.metric, told.make
    looked_at = [make_trial(point, options, common) for point in points] or some_trials(options, common)

    class Training(tune.Trainable):
        """A trial's training, in a thread; each step of Tune's is one of its figures."""

        def setup(self, config: dict[str, Any]) -> None:
            self._job = make(search.values(axes, config))
            Path(self._job.stop).unlink(missing_ok=True)  # of a sweep that was killed
            self._figures: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._run, name="train", daemon=True)
            self._thread.start()

        def step(self) -> dict[str, Any]:
            told = self._figures.get()
            if isinstance(told, Exception):
                raise told
            return told

        def cleanup(self) -> None:
            if self._thread.is_alive():  # else what trains at this point may be another's
                Path(self._job.stop).touch()
                self._thread.join()
                Path(self._job.stop).unlink(missing_ok=True)

        def _run(self) -> None:
            job, seen, last = self._job, 0, dict[str, Any]()

            def tell(step: int, row: Mapping[str, float]) -> None:
                nonlocal seen, last
                # The last figure is told when the model is there: who hears it may end this process.
                if metric in row and seen < step and (step < job.trial.steps or job.done):
                    seen, last = step, {metric: row[metric], "examples": step * job.trial.batch_size}
                    self._figures.put(last)

            try:
                with follow(job.metrics, tell):
                    _patiently(lambda: _train(job))
                for row in read_metrics(os.path.join(job.folder, METRICS)):
                    tell(int(row["step"]), row)
                self._figures.put({**last, "done": True})
            except UserError as error:
                self._figures.put({metric: math.nan, "examples": 0, "error": _words(error), "done": True})
            except Exception as error:  # noqa: BLE001 - raised where Tune hears it
                self._figures.put(error)

    class Pass(tune.Callback):
        def __reduce__(self) -> Any:  # Tune keeps a copy on disk, which nobody reads
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            told.began(search.values(axes, trial.config), trial.trial_id)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            last = trial.last_result or {}
            error, examples = str(last.get("error", "")), int(last.get("examples", 0))
            told.ended(search.values(axes, trial.config), trial.trial_id, error, examples)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            error = _words(trial.get_error() or RuntimeError("it died"))
            told.ended(search.values(axes, trial.config), trial.trial_id, error)

    tuner = tune.Tuner(
        tune.with_resources(Training, {"memory": DRIVER_MEMORY}),
        param_space={POINT: tune.grid_search(list(points))} if points else {},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=_at_a_time(options.concurrent, looked_at),
            num_samples=1 if points else count,
            **plan,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(Path(out, "_ray").absolute()),
            verbose=0,
            callbacks=[Pass()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
    told.publish_stopped()
    for job in told.jobs.values():
        if job.trial.name not in told.failed and not _standing(job):
            told.failed[job.trial.name] = "it was not finished"


def _at_a_time(wanted: int, trials: Sequence[Trial]) -> int:
    """How many have room here at once, each with all of its workers; one at least, which says what is missing."""
    import ray

    trains = [trial.setting.train for trial in trials]
    asked = {
        "CPU": max(train.workers * train.threads for train in trains),
        "GPU": max(train.workers * train.gpu for train in trains),
    }
    there = ray.cluster_resources()
    room = min(int(there.get(name, 0) // amount) for name, amount in asked.items() if amount)
    if room < wanted:
        log.info("sweep: the cluster has room for %d trials at a time, not for %d", max(room, 1), wanted)
    return max(1, min(room, wanted))


def _words(error: BaseException) -> str:
    """What failed, on one line: a UserError's own words, else the kind and message at the bottom of what Ray wrapped."""
    if isinstance(error, UserError):
        return "; ".join(line.strip() for line in str(error).splitlines())
    error = unwrapped(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def _result(job: _Job) -> TrialResult:
    manifest = read_manifest(job.folder)
    metrics = read_metrics(os.path.join(job.folder, METRICS))
    return TrialResult(
        trial=job.trial,
        metrics=metrics,
        score=next(row[job.metric] for row in reversed(metrics) if job.metric in row),
        seconds=manifest.seconds,
        folder=job.folder,
        stopped=manifest.rows < job.trial.steps,
    )
