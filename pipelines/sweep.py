"""The flow of `cpt-ray sweep`: pairs and first weights become a model for each point of a grid."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("sweep")  # ends here, before the imports below, which may take seconds

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from cpt_ray.artifacts import Ledger, Manifest, read_manifest
from cpt_ray.cluster import connect
from cpt_ray.evaluate import figures as draw
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import settle
from cpt_ray.model.weights import pinned, weights_identity
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.splits import TRAIN
from cpt_ray.progress import Bar, progress
from cpt_ray.sweep.grid import SWEEP, Trial, TrialResult, TrialsFailed, run_sweep, trials
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.tracking.outbox import ReportedRun
from cpt_ray.train.faster import faster
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
        connect(options.cluster),
        Tracked(options.tracking, options.cluster.folder(""), "sweep", f"sweep/{out}", options) as tracked,
    ):
        heldout = posixpath.join(out, "heldout")
        train.make_heldout(heldout, options.pairs, options.model.init, options)
        with under("sweep", SweepOptions):
            manifest = make(
                out, options.pairs, heldout, options.model, options.batches, options.train, options.sweep, tracked
            )
    return manifest


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
        options.precision,
        SWEEP,
        path,
        params=params,
        inputs=inputs,
        measure=lambda: faster(train.trained_shape(model, read_manifest(heldout)), options),
    )
    options = options.model_copy(update={"precision": precision})
    points = trials(sweep)
    with SWEEP.build(path, params=params(precision), inputs=inputs) as work:
        if work.manifest is not None:
            print_leaderboard(work.manifest.extra["trials"])
            return work.manifest
        orders = {}
        for size in sweep.batch_sizes:
            orders[size] = posixpath.join(folder, f"batches-{size}")
            sized = batches.model_copy(update={"batch_size": size, "steps": sweep.examples // size})
            train.make_order(orders[size], pairs, TRAIN, model.init, sized)
        try:
            with progress("sweep", total=sum(point.steps for point in points), unit="steps") as bar:
                results = run_sweep(
                    sweep,
                    options,
                    model,
                    orders=orders,
                    heldout=heldout,
                    out=folder,
                    inputs={"initial": weights},
                    watch=Watched(tracked, bar),
                    pairs=pairs,
                )
        except TrialsFailed as error:
            report(error.results, sweep, orders, heldout, tracked)
            raise
        rows = report(results, sweep, orders, heldout, tracked)
        ledger = Ledger.of("trials", read=len(points), kept=len(rows))
        return work.publish(ledger, rows=len(rows), extra={"trials": rows, "metric": sweep.metric, **chosen})


class Watched:
    """Trials as they go on: a run in MLflow from their first moment, its curve, and one bar for all of them."""

    def __init__(self, tracked: Tracked, bar: Bar) -> None:
        self._tracked, self._bar = tracked, bar
        self._runs: dict[Trial, ReportedRun] = {}
        self._following: dict[Trial, ExitStack] = {}

    def began(self, trial: Trial, identity: str, metrics: str) -> None:
        run = self._tracked.run(trial.name, identity)
        run.params(varied(trial))
        self._runs[trial] = run
        self._following[trial] = ExitStack()
        self._following[trial].enter_context(told(run, self._bar, metrics))

    def ended(self, trial: Trial, error: str) -> None:
        self._following.pop(trial).close()
        self._bar.advance(0, **({"failed": 1} if error else {"trials": 1}))
        if error:
            self._runs[trial].tags({"cpt_ray.error": error})
            self._runs[trial].end("FAILED")


def varied(trial: Trial) -> dict[str, float]:
    """What the sweep varies, as parameters of equal names in every trial's run."""
    return {"batch_size": trial.batch_size, "temperature": trial.temperature, "steps": trial.steps}


def report(
    results: Sequence[TrialResult], sweep: SweepOptions, orders: Mapping[int, str], heldout: str, tracked: Tracked
) -> list[dict[str, Any]]:
    """Finish the runs of these trials, best first, log the leaderboard and print it; returns its rows."""
    rows: list[dict[str, Any]] = []
    for result in results:
        manifest = read_manifest(result.folder)
        run = tracked.run(result.trial.name, manifest.identity, started_at(manifest))
        run.params(varied(result.trial))
        for row in result.metrics:  # those that were told already are not logged twice
            run.metrics(int(row["step"]), {name: value for name, value in row.items() if name != "step"})
        tracked.finish(result.trial.name, result.folder, manifest, (orders[result.trial.batch_size], heldout))
        last = result.metrics[-1]
        scores = {column(name): value for name, value in last.items() if name.startswith("heldout_")}
        heldout_loss = scores.pop("heldout_loss")
        rows.append(
            {
                "batch_size": result.trial.batch_size,
                "temperature": result.trial.temperature,
                "metrics": {
                    **scores,
                    "heldout_loss": heldout_loss,
                    "train_loss": last["loss"],
                    "final_temperature": last["temperature"],
                },
                "seconds": result.seconds,
                "examples": sweep.examples,
            }
        )
    if rows:
        for name, figure in figures(results, sweep.metric).items():
            tracked.parent.figure(figure, f"figures/{name}.png")
        tracked.parent.table([{**row, **row["metrics"]} for row in rows], "leaderboard.json")
        print_leaderboard(rows)
    return rows


def figures(results: Sequence[TrialResult], metric: str) -> dict[str, Figure]:
    """What the parent shows of its trials, best first: the metric over batch size and temperature, and over pairs seen."""
    words = metric.removeprefix("heldout_").replace("_at_", "@").replace("_", " ").replace("mrr", "MRR")
    cells = [(result.trial.batch_size, result.trial.temperature, result.score) for result in results]
    rows = {(result.trial.batch_size, result.trial.temperature): result.metrics for result in results}
    return {"sweep": draw.sweep(cells, words), "examples": draw.by_examples(rows, metric, f"held-out {words}")}


def print_leaderboard(rows: Sequence[Mapping[str, Any]]) -> None:
    """A row per trial, best first."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("batch size", "temperature", *rows[0]["metrics"]):
        table.add_column(name, justify="right")
    for row in rows:
        values = [f"{value:.4f}" for value in row["metrics"].values()]
        table.add_row(f"{row['batch_size']:,}", f"{row['temperature']:g}", *values)
    console().print(table, highlight=False)
