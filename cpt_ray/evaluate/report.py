"""The report of a run: one typed record, written as `report.json` and shown as one HTML page that needs nothing else.

`DemoReport` is what pipelines fill in; `write` writes both files; `figures` gives the same plots for MLflow.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import BaseModel, ConfigDict, Field

from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.evaluate.page import page
from cpt_ray.evaluate.page import write as write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("model", "initial", "bm25", "chance")


class Part(BaseModel):
    """A part of the report: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class UnitCount(Part):
    """What became of the rows of one unit (pages, files, functions) in a stage."""

    read: int
    kept: int
    dropped: dict[str, int] = {}


class Stage(Part):
    """One step of the run. `rows_in` of its first unit, `kept` of its last, `dropped` over all units."""

    seconds: float
    rows_in: int
    kept: int
    dropped: dict[str, int] = {}
    units: dict[str, UnitCount] = {}
    resumed: bool = False
    digest: str = ""
    path: str = ""

    @staticmethod
    def of(manifest: Manifest, path: str = "") -> Stage:
        """From the manifest of the artifact that the stage published."""
        ledger = manifest.balance
        return Stage(
            seconds=manifest.seconds,
            rows_in=ledger.rows_in,
            kept=ledger.kept,
            dropped=ledger.dropped,
            units={
                unit: UnitCount(read=count.read, kept=count.kept, dropped=dict(count.dropped))
                for unit, count in ledger.units.items()
            },
            resumed=manifest.resumed,
            digest=manifest.digest,
            path=path,
        )


class Metrics(Part):
    """Means over the queries, each in [0, 1]."""

    mrr: float
    recall_at_1: float
    recall_at_10: float


class SearchSetting(Part):
    """Among what was searched (evaluate/candidates.py)."""

    candidates: int
    queries: int
    blocks: int
    pairs: int
    largest_group: int
    repeated_documents: int


class SearchResult(Part):
    """One task, the same blocks for each method; what `evaluate.search.compare` returns fits."""

    model: Metrics
    initial: Metrics
    bm25: Metrics
    chance: Metrics
    setting: SearchSetting | None = None


class Trial(Part):
    """One trial of the sweep: what was varied, by name; all saw equally many examples but for those that were stopped."""

    values: dict[str, Any]
    metrics: dict[str, float]
    seconds: float = 0.0
    examples: int = 0
    stopped: bool = False


class Curve(Part):
    """What training reported: rows with `step` and numbers (`loss`, `heldout_mrr`, ...)."""

    rows: list[dict[str, float]] = []


class Space(Part):
    """Held-out pairs in a model's space (evaluate/space.py)."""

    right: list[int] = Field(description="cosines of a query and its answer in each of equal bins from -1 to 1")
    other: list[int] = Field(description="and of a query and the answers of others")
    map: list[tuple[float, float, float, float]] = Field(description="places of queries and answers, x and y of each")


class Hit(Part):
    """One answer of a search."""

    score: float
    where: str = Field(description="path and line")
    name: str
    summary: str = ""
    group: str = ""


class Example(Part):
    """A query and what the trained model finds for it."""

    query: str
    hits: list[Hit]


class DemoReport(Part):
    """Everything the run has to say for itself; `report.json` is this."""

    title: str = "cpt-ray demo"
    identity: str = ""
    created: str = ""
    seconds: float
    peak_memory_bytes: int = 0
    machine: dict[str, str] = {}
    versions: dict[str, str] = {}
    commit: str = ""
    stages: dict[str, Stage]
    code_search: SearchResult
    text_search: SearchResult
    sweep: list[Trial] = Field(default=[], description="best first")
    sweep_metric: str = Field(default="mrr", description="of the trials' metrics, the one that ranks them")
    curves: dict[str, Curve] = {}
    pretrain: dict[str, Curve] = {}
    spaces: dict[str, Space] = {}
    examples: list[Example] = []
    artifacts: dict[str, str] = Field(default={}, description="what, and the path or address where it is")


def machine() -> dict[str, str]:
    """The machine in words: system, processor, cores this process may use, memory."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "python": platform.python_version(),
    }


def figures(report: DemoReport) -> dict[str, Figure]:
    """The plots by file stem; those without data are left out."""
    from cpt_ray.evaluate import figures as draw

    series = {name: curve.rows for name, curve in report.curves.items() if curve.rows}
    before = {name: curve.rows for name, curve in report.pretrain.items() if curve.rows}
    drawn: dict[str, Figure] = {}
    if _any(series, "loss"):
        drawn["loss"] = draw.curves(series, ["loss"], "Contrastive training loss", "cross-entropy (nats)")
    if _any(series, "heldout_mrr"):
        drawn["heldout"] = draw.curves(series, ["heldout_mrr"], "Held-out search during training", "MRR")
    if _any(before, "loss"):
        drawn["pretrain"] = draw.curves(before, ["loss"], "Language modelling (initial weights)", "nats per token")
    if _any(series, "temperature"):
        drawn["temperature"] = draw.curves(series, ["temperature"], "Trained temperature", "exp(-tau)")
    if report.sweep:
        cells = [(trial.values, trial.metrics[report.sweep_metric]) for trial in report.sweep]
        words = report.sweep_metric.removeprefix("heldout_").replace("_", " ")
        drawn["sweep"] = draw.sweep(cells, words.replace("mrr", "MRR"))
    for name, space in report.spaces.items():
        drawn[f"similarities_{name}"] = draw.similarities(space.right, space.other, f"Cosines of {name} pairs", name)
        drawn[f"map_{name}"] = draw.pairs_map(space.map, f"Where {name} pairs lie", name)
    rows = [
        (name if len(stage.units) < 2 else f"{name}: {unit}", count.read, count.kept, count.dropped)
        for name, stage in report.stages.items()
        for unit, count in stage.units.items()
        if count.dropped
    ]
    if rows:
        drawn["funnel"] = draw.funnel(rows)
    return drawn


def html(report: DemoReport) -> str:
    """The page."""
    tasks = [
        ("Code search", "docstring to code", report.code_search),
        ("Text search", "piece to neighbour", report.text_search),
    ]
    return page("report.html.j2", figures(report), r=report, tasks=tasks, methods=METHODS, names=_NAMES)


def write(report: DemoReport, folder: str) -> tuple[str, str]:
    """Write `report.json` and `report.html` into a local folder; each appears whole. Returns both paths."""
    os.makedirs(folder, exist_ok=True)
    paths = os.path.join(folder, "report.json"), os.path.join(folder, "report.html")
    write_page(paths[0], report.model_dump_json(indent=1) + "\n")
    write_page(paths[1], html(report))
    return paths


_NAMES = {"model": "trained model", "initial": "initial weights", "bm25": "BM25", "chance": "chance"}


def _any(series: Mapping[str, list[dict[str, Any]]], column: str) -> bool:
    return any(column in row for rows in series.values() for row in rows)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
