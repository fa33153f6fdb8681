"""The flow of `cpt-ray evaluate`: held-out pairs or labelled data, and models, become figures."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("evaluate")  # ends here, before the imports below, which may take seconds

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from rich.table import Table

from cpt_ray.artifacts import Ledger, Manifest, Stage, read_manifest
from cpt_ray.artifacts.store import part_name
from cpt_ray.errors import UserError
from cpt_ray.evaluate.candidates import EVALUATE
from cpt_ray.evaluate.embed import Embed, sentence_transformer
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.search import compare
from cpt_ray.evaluate.statistics import Figure, interval
from cpt_ray.evaluate.suite import QUERIES, SUITE, by_query, measure
from cpt_ray.evaluate.suite_options import SuiteOptions
from cpt_ray.evaluate.tasks import digest
from cpt_ray.model.options import Device, Inference
from cpt_ray.pairs.splits import HELDOUT, read_side
from cpt_ray.progress import progress

from . import reads
from .config import at
from .options.evaluate import READS, PipelineOptions
from .summary import console, print_artifacts

log = logging.getLogger("cpt_ray")


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Measure and print; returns the manifests by path."""
    reads.check_options(READS, options)
    path, initial, made = options.cluster.on_disk(options.output), None, {}
    if options.initial is not None:
        from cpt_ray.model.weights import existing

        with at("initial", options.initial):
            initial = existing(options.initial).init  # of a hub id the commit that it is now
    if options.pairs is not None and initial is not None:
        made[path] = make(
            path, options.pairs, options.trained, initial, options.candidates, options.device, options.precision
        )
        print_search({"search": made[path].extra["search"]}, made[path].extra["intervals"])
    if options.suite.tasks:
        path = path.rstrip("/") + "_suite"
        made[path] = make_suite(path, options.suite, options.trained, initial, options.device, options.precision)
        print_suite(made[path].extra["rows"])
    print_artifacts(made)
    return made


def make(
    path: str,
    pairs: str,
    model: str,
    initial: str,
    options: CandidateOptions,
    device: Device = "auto",
    precision: Inference = "auto",
) -> Manifest:
    """The evaluation artifact; its manifest holds the metrics of model, initial weights, BM25 and chance."""
    from cpt_ray.model.weights import weights_identity

    inputs: dict[str, str | Manifest] = {
        "pairs": read_manifest(pairs),
        "model": weights_identity(model),
        "initial": weights_identity(initial),
    }

    def params(precision: str) -> dict[str, Any]:
        return {**options.result(), "precision": precision}

    chosen, told = _settled(precision, EVALUATE, path, params, inputs, model, device)
    with EVALUATE.build(path, params=params(chosen), inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        heldout = read_side(pairs, HELDOUT)
        found = compare(heldout, options, _models(model, initial, device, chosen))
        used = found["setting"]["queries"]
        ledger = Ledger.of("pairs", read=heldout.num_rows, kept=used, dropped={"not_drawn": heldout.num_rows - used})
        sure = {
            method: {name: interval(value) for name, value in figures.items() if isinstance(value, Figure)}
            for method, figures in found.items()
        }
        return work.publish(ledger, rows=used, extra={"search": found, "intervals": sure, **told})


def make_suite(
    path: str,
    suite: SuiteOptions,
    model: str,
    initial: str | None,
    device: Device = "auto",
    precision: Inference = "auto",
) -> Manifest:
    """The suite artifact: what became of each query; its manifest holds a row per task and method."""
    from cpt_ray.model.weights import weights_identity

    tasks = [task for task in suite.tasks if suite.absent == "error" or all(path.is_file() for path in task.files())]
    absent = [task.title for task in suite.tasks if task not in tasks]
    if not tasks:
        raise UserError("no data of this suite is there", where="data", fix="see docs/analyst.md for the layouts")
    if absent:
        log.info("suite: no data of %s", ", ".join(absent))
    inputs = {f"data {number}: {task.title}": digest(task) for number, task in enumerate(tasks)}
    inputs |= {"model": weights_identity(model), **({} if initial is None else {"initial": weights_identity(initial)})}

    def params(precision: str) -> dict[str, Any]:
        return {"tasks": [task.result() for task in tasks], "precision": precision}

    chosen, told = _settled(precision, SUITE, path, params, inputs, model, device)
    with SUITE.build(path, params=params(chosen), inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        models = _models(model, initial, device, chosen)
        with progress("suite", total=len(tasks), unit="tasks") as bar:
            rows = measure(tasks, models, done=lambda: bar.advance(1))
        queries = by_query(tasks, rows)
        work.write(f"{part_name(0)}.parquet", queries)
        return work.publish(
            Ledger.of(
                "tasks", read=len(suite.tasks), kept=len(tasks), dropped={"absent": len(absent)} if absent else {}
            ),
            rows=queries.num_rows,
            schema=QUERIES,
            extra={"rows": rows, **told},
        )


def _settled(
    precision: Inference,
    stage: Stage,
    path: str,
    params: Callable[[str], object],
    inputs: Mapping[str, str | Manifest],
    model: str,
    device: Device,
) -> tuple[Inference, dict[str, Any]]:
    """The precision that is measured in, here in the driver with all its threads."""
    if not _ours(model):
        return "fp32", {}
    import torch

    from cpt_ray.model.embedder import device_of, shape_of
    from cpt_ray.model.precision import Choice, measured, settle
    from cpt_ray.model.weights import config_of, existing, read_info

    def measure_here() -> Choice:
        shape = shape_of(config_of(existing(model), 0), read_info(model))
        return measured(shape, device_of(device), torch.get_num_threads())

    chosen, told = settle(precision, stage, path, params=params, inputs=inputs, measure=measure_here)
    return cast(Inference, chosen), told


def _models(model: str, initial: str | None, device: Device, precision: Inference) -> dict[str, Embed]:
    """The trained model and, where they are given, the weights that it started from."""
    if not _ours(model):
        if initial is not None:
            raise UserError(
                "the first weights are read as a model of cpt-ray train reads texts",
                where="initial",
                fix="leave it out",
            )
        return {"model": sentence_transformer(model, None if device == "auto" else device)}
    from cpt_ray.model.embedder import Embedder

    trained = Embedder(model, device=device, precision=precision)
    models: dict[str, Embed] = {"model": trained.embed}
    if initial is not None:
        models["initial"] = Embedder(initial, untrained=trained.info, device=device, precision=precision).embed
    return models


def _ours(model: str) -> bool:
    return Path(model, "cpt_ray.json").is_file()


def print_search(tasks: Mapping[str, Mapping[str, Any]], sure: Mapping[str, Any] = MappingProxyType({})) -> None:
    """One row per task and method: MRR, recall at 1 and 10, and half the width of the 95 % interval that `sure` has of a
    method's metric."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("search among candidates")
    for name in ("MRR", "recall@1", "recall@10"):
        table.add_column(name, justify="right")
    for task, found in tasks.items():
        for method in ("model", "initial", "bm25", "chance"):
            row, of = found[method], sure.get(method, {})
            cells = (value_of(row[m], of.get(m)) for m in ("mrr", "recall_at_1", "recall_at_10"))
            table.add_row(f"{task}  {method}", *cells)
    console().print(table, highlight=False)


def print_suite(rows: Sequence[dict[str, Any]]) -> None:
    """A line per task, a column per method: the figure that stands for the task, and half the width of its interval."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("task")
    table.add_column("metric")
    for method in methods:
        table.add_column(method.replace("_", "-"), justify="right")
    for title in dict.fromkeys(row["task"] for row in rows):
        of = {row["method"]: row for row in rows if row["task"] == title}
        values = [figure(of[method]) if method in of else "" for method in methods]
        metric = next(iter(of.values()))["metric"]
        table.add_row(title, metric.replace("_at_", "@"), *values)
        for variant in (name for name in next(iter(of.values()))["scores"] if name.endswith(f"_{metric}")):
            # Not every method has every variant: words are not searched by a graph of vectors.
            scores = [of[method]["scores"].get(variant) if method in of else None for method in methods]
            others = ["" if score is None else f"{score:.4f}" for score in scores]
            table.add_row(f"  {variant.removesuffix(f'_{metric}')}", "", *others)
    console().print(table, highlight=False)


def figure(row: Mapping[str, Any]) -> str:
    """A row of a suite."""
    return value_of(row["value"], (row["low"], row["high"]) if "low" in row else None)


def value_of(value: float, sure: Sequence[float] | None) -> str:
    """ "0.4120 ±0.031": half the width of the 95 % interval, where there is one."""
    return f"{value:.4f}" + (f" ±{(sure[1] - sure[0]) / 2:.3f}" if sure else "")
