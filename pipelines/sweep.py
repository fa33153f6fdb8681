"""The flow of `cpt-ray sweep`: pairs and first weights become a model for each point of a space."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("sweep")  # ends here, before the imports below, which may take seconds

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from cpt_ray.artifacts import Ledger, Manifest, read_manifest
from cpt_ray.artifacts.manifest import digests_of
from cpt_ray.cluster import connect
from cpt_ray.errors import UserError
from cpt_ray.evaluate import figures as draw
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import AUTO, settle
from cpt_ray.model.weights import pinned, weights_identity
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.splits import TRAIN
from cpt_ray.progress import Bar, progress
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.run import SWEEP, TrialResult, TrialsFailed, run_sweep
from cpt_ray.sweep.trials import Setting, Trial, known_trials, orders, some_trials
from cpt_ray.tracking.outbox import ReportedRun
from cpt_ray.train.estimate import say
from cpt_ray.train.faster import faster
from cpt_ray.train.launch import check_room
from cpt_ray.train.options import TrainOptions

from . import reads, train
from .config import under
from .options.sweep import READS, PipelineOptions
from .summary import console
from .tracked import Tracked, started_at, told


def column(metric: str) -> str:
    """What `metric` is called among a trial's metrics: those of held-out pairs go by their names alone, but for the loss."""
    return metric if metric == "heldout_loss" else metric.removeprefix("heldout_")


def run(options: PipelineOptions) -> Manifest:
    """Train every trial; prints them, best first."""
    reads.check_options(READS, options)
    options = options.model_copy(update={"model": pinned(options.model)})
    train.open_tokenizer(options.model.init)
    out = options.cluster.on_disk(options.output)
    with (
        connect(options.cluster) as resources,
        Tracked(options.tracking, options.cluster.folder(""), "sweep", f"sweep/{out}", options) as tracked,
    ):
        check_room(options.train, resources, here=options.cluster.address is None)
        heldout = posixpath.join(out, "heldout")
        train.make_heldout(heldout, options.pairs, options.model.init, options)
        with under("sweep", SweepOptions):
            manifest = make(
                out, options.pairs, heldout, options.model, options.batches, options.train, options.sweep, tracked
            )
    return manifest


def precision_before(
    wanted: str, path: str, params: Callable[[str], dict[str, Any]], inputs: Mapping[str, str | Manifest]
) -> str:
    """`wanted`, but for auto the precision of the sweep that stands at `path`, if this one differs from it in the sweep's own
    options alone: it takes its trials over."""
    try:
        before = read_manifest(path)
    except UserError:
        return wanted
    if wanted != AUTO or before.step != SWEEP.name or digests_of(inputs) != before.inputs:
        return wanted
    found = str(before.params["train"]["precision"])
    return found if {**params(found), "sweep": before.params["sweep"]} == before.params else wanted


def how_long(sweep: SweepOptions, common: Setting, ordered: Mapping[str, str], heldout: str, folder: str) -> float:
    """About how many seconds the trials take that do not stand in `folder`, those that a scheduler may stop too."""
    known = known_trials(sweep, common)
    left = [one for one in known or some_trials(sweep, common) if not os.path.isdir(posixpath.join(folder, one.name))]
    if not left:
        return 0.0
    each = [
        train.how_long(one.steps, ordered[one.order], heldout, one.setting.model, one.setting.train) for one in left
    ]
    count = len(left) if known else sweep.search.count(sweep.axes)
    return sum(each) / len(each) * count / min(sweep.concurrent, count)


def make(
    out: str,
    pairs: str,
    heldout: str,
    model: ModelOptions,
    batches: BatchOptions,
    options: TrainOptions,
    sweep: SweepOptions,
    tracked: Tracked,
) -> Manifest:
    """`sweep` under `out`: an artifact whose manifest lists the trials; the trials stay in `sweep_trials`."""
    path, folder = posixpath.join(out, "sweep"), posixpath.join(out, "sweep_trials")
    weights = weights_identity(model.init)
    inputs: dict[str, str | Manifest] = {
        "pairs": read_manifest(pairs),
        "heldout": read_manifest(heldout),
        "initial": weights,
    }

    def params(precision: str) -> dict[str, Any]:
        return {
            "sweep": sweep.result(),
            "model": model.result(),
            "train": {**options.result(), "precision": precision},
            "batches": batches.result("batch_size", "steps", "epochs"),
        }

    precision, chosen = settle(
        precision_before(options.precision, path, params, inputs),
        SWEEP,
        path,
        params=params,
        inputs=inputs,
        measure=lambda: faster(train.trained_shape(model, read_manifest(heldout)), options),
    )
    options = options.model_copy(update={"precision": precision})
    common = Setting(options, batches, model)
    with SWEEP.build(path, params=params(precision), inputs=inputs) as work:
        if work.manifest is not None:
            print_leaderboard(work.manifest.extra["trials"])
            return work.manifest
        asked = orders(sweep, common)
        ordered = {name: posixpath.join(folder, name) for name in asked}
        for name, one in asked.items():
            train.make_order(ordered[name], pairs, TRAIN, model.init, one)
        count = sweep.search.count(sweep.axes)
        say("sweep", how_long(sweep, common, ordered, heldout, folder))
        try:
            with progress("sweep", total=count * sweep.examples, unit="pairs") as bar:
                results = run_sweep(
                    sweep,
                    common,
                    orders=ordered,
                    heldout=heldout,
                    out=folder,
                    inputs={"initial": weights},
                    watch=Watched(tracked, bar),
                    pairs=pairs,
                    scratch=work.scratch,
                )
        except TrialsFailed as error:
            report(error.results, sweep.metric, ordered, heldout, tracked)
            raise
        rows = report(results, sweep.metric, ordered, heldout, tracked)
        # A search may propose a point twice, which is trained once.
        repeated = {"proposed_again": again} if (again := count - len(rows)) else {}
        ledger = Ledger.of("trials", read=count, kept=len(rows), dropped=repeated)
        return work.publish(ledger, rows=len(rows), extra={"trials": rows, "metric": sweep.metric, **chosen})


class Watched:
    """Trials as they go on: a run in MLflow from their first moment, its curve, and one bar for all of them."""

    def __init__(self, tracked: Tracked, bar: Bar) -> None:
        self._tracked, self._bar = tracked, bar
        self._runs: dict[str, ReportedRun] = {}
        self._following: dict[str, ExitStack] = {}

    def began(self, trial: Trial, identity: str, metrics: str) -> None:
        run = self._tracked.run(trial.name, identity)
        run.params(trial.params)
        self._runs[trial.name] = run
        self._following[trial.name] = ExitStack()
        self._following[trial.name].enter_context(
            told(run, self._bar, metrics, trial.batch_size, units=trial.batch_size)
        )

    def ended(self, trial: Trial, error: str) -> None:
        self._following.pop(trial.name).close()
        self._bar.advance(0, **({"failed": 1} if error else {"trials": 1}))
        if error:
            self._runs[trial.name].tags({"cpt_ray.error": error})
            self._runs[trial.name].end("FAILED")


def report(
    results: Sequence[TrialResult], metric: str, ordered: Mapping[str, str], heldout: str, tracked: Tracked
) -> list[dict[str, Any]]:
    """Finish the runs of these trials, best first, log the leaderboard and print it; returns its rows."""
    rows: list[dict[str, Any]] = []
    for result in results:
        manifest = read_manifest(result.folder)
        run = tracked.run(result.trial.name, manifest.identity, started_at(manifest))
        run.params(result.trial.params)
        if result.stopped:
            run.tags({"cpt_ray.stopped": f"after {result.examples:,} of {result.trial.examples:,} pairs"})
        for row in result.metrics:  # those that were told already are not logged twice
            run.metrics(int(row["step"]), {name: value for name, value in row.items() if name != "step"})
        tracked.finish(result.trial.name, result.folder, manifest, (ordered[result.trial.order], heldout))
        last = result.metrics[-1]
        scores = {column(name): value for name, value in last.items() if name.startswith("heldout_")}
        heldout_loss = scores.pop("heldout_loss")
        rows.append(
            {
                "values": result.trial.short,
                "metrics": {
                    **scores,
                    "heldout_loss": heldout_loss,
                    "train_loss": last["loss"],
                    "final_temperature": last["temperature"],
                },
                "seconds": result.seconds,
                "examples": result.examples,
                "stopped": result.stopped,
            }
        )
    if rows:
        for name, figure in figures(results, metric).items():
            tracked.parent.figure(figure, f"figures/{name}.png")
        tracked.parent.table([{**row["values"], **row, **row["metrics"]} for row in rows], "leaderboard.json")
        print_leaderboard(rows)
    return rows


def figures(results: Sequence[TrialResult], metric: str) -> dict[str, Figure]:
    """What the parent shows of its trials, best first: the metric over what was varied, and over pairs seen."""
    words = metric.removeprefix("heldout_").replace("_at_", "@").replace("_", " ").replace("mrr", "MRR")
    points = [(result.trial.short, result.score) for result in results]
    lines = [draw.Line(result.trial.short, result.trial.batch_size, result.metrics) for result in results]
    return {"sweep": draw.sweep(points, words), "examples": draw.by_examples(lines, metric, f"held-out {words}")}


def print_leaderboard(rows: Sequence[Mapping[str, Any]]) -> None:
    """A row per trial, best first, stopped ones last."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    stopped = any(row["stopped"] for row in rows)
    for name in (*rows[0]["values"], *rows[0]["metrics"], *(["pairs seen"] if stopped else [])):
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        values = [draw.shown(value) for value in row["values"].values()]
        metrics = [f"{value:.4f}" for value in row["metrics"].values()]
        table.add_row(*values, *metrics, *([f"{row['examples']:,}"] if stopped else []))
    console().print(table, highlight=False)
