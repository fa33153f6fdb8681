"""What the demo has to say at its end: report.json, report.html, figures in MLflow, and one table."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from rich.table import Table

import cpt_ray
from cpt_ray.artifacts import Manifest, fingerprint, read_manifest
from cpt_ray.artifacts.manifest import software
from cpt_ray.errors import UserError
from cpt_ray.evaluate import report
from cpt_ray.evaluate.report import Curve, DemoReport, Example, Hit, SearchResult, Space, Stage, Trial
from cpt_ray.memory import Peak
from cpt_ray.options import Options
from cpt_ray.train.metrics import METRICS, read_metrics

from . import sweep, train
from .evaluate import print_search
from .summary import console, reasons, shown
from .tracked import Tracked

MODELS = {"code_model": "code", "text_model": "text"}
SPREAD = 1000
"""Held-out pairs whose vectors are drawn."""


def identity(options: Options, installed: str) -> str:
    """What makes a finished demo this one: its options (not where it runs), the installed packages, our own code."""
    plain = options.result("cluster", "tracking")
    return fingerprint({"options": plain, "installed": installed, "code": _own_code()})


def finished(out: str, identity: str) -> DemoReport | None:
    """The report at `out` if it is of this very demo and every artifact it names still stands."""
    path = Path(out, "report.json")
    if not path.exists() or not Path(out, "report.html").exists():
        return None
    try:
        done = DemoReport.model_validate_json(path.read_text())
    except ValidationError:  # another version wrote it
        return None
    if done.identity != identity:
        return None
    for stage in done.stages.values():
        try:
            if read_manifest(stage.path).digest != stage.digest:
                return None
        except UserError:
            return None
    return done


def write(
    out: str,
    made: Mapping[str, tuple[str, Manifest]],
    tracked: Tracked,
    *,
    identity: str,
    queries: Sequence[str],
    started: float,
    peak: Peak,
) -> DemoReport:
    """Write the report, log it with its figures and models to MLflow, and show the table."""
    manifests = {name: manifest for name, (_, manifest) in made.items()}
    peak.sample()
    # A run that went on from an earlier one took the time of all its stages, not of its last session.
    seconds = max(time.monotonic() - started, sum(manifest.seconds for manifest in manifests.values()))
    found = DemoReport(
        identity=identity,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        peak_memory_bytes=peak.bytes,
        machine=report.machine(),
        versions=software(),
        commit=tracked.commit,
        stages={name: Stage.of(manifest, path) for name, (path, manifest) in made.items()},
        code_search=SearchResult.model_validate(manifests["code_search"].extra["search"]),
        text_search=SearchResult.model_validate(manifests["text_search"].extra["search"]),
        sweep=[Trial.model_validate(row) for row in manifests["sweep"].extra["trials"]],
        sweep_metric=sweep.column(manifests["sweep"].extra["metric"]),
        curves={label: _curve(made[name][0]) for name, label in MODELS.items()},
        pretrain={"language model": _curve(made["initial"][0])},
        spaces={label: _space(made[f"{label}_pairs"][0], made[name][0]) for name, label in MODELS.items()},
        examples=_examples(made, queries),
        artifacts={
            "report": posixpath.join(out, "report.html"),
            "code pairs": made["code_pairs"][0],
            "text pairs": made["text_pairs"][0],
            "code model": made["code_model"][0],
            "text model": made["text_model"][0],
            "search index": made["index"][0],
            "MLflow": tracked.uri,
        },
    )
    report.write(found, out)
    _track(found, out, made, tracked)
    show(found, out)
    return found


def show(found: DemoReport, out: str, note: str = "") -> None:
    """The table at the end, and where everything is."""
    screen = console()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True)
    for name in ("seconds", "in", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("dropped", overflow="fold")
    for name, stage in found.stages.items():
        units = list(stage.units) or ["rows"]
        table.add_row(
            name,
            f"{stage.seconds:,.1f}",
            f"{stage.rows_in:,} {units[0]}",
            f"{stage.kept:,} {units[-1]}",
            reasons(stage.dropped, 3),
        )
    screen.print(table, highlight=False)
    screen.print()
    print_search(
        {"code": found.code_search.model_dump(), "text": found.text_search.model_dump()},
    )
    screen.print()
    for what, where in found.artifacts.items():
        screen.print(f"{what:<14}{shown(where)}", highlight=False, soft_wrap=True)
    screen.print(
        f"\n{found.seconds / 60:.1f} minutes, peak memory {found.peak_memory_bytes / 2**30:.1f} GiB"
        + (f"; {note}" if note else ""),
        highlight=False,
    )
    screen.print('Next: cpt-ray search "parse an ISO date"   ·   make mlflow', highlight=False)


def _track(found: DemoReport, out: str, made: Mapping[str, tuple[str, Manifest]], tracked: Tracked) -> None:
    run = tracked.parent
    for task, result in (("code_search", found.code_search), ("text_search", found.text_search)):
        for method in report.METHODS:
            values = getattr(result, method).model_dump()
            run.metrics(0, {f"{task}.{method}.{name}": value for name, value in values.items()})
    run.metrics(0, {"seconds": found.seconds, "peak_memory_gib": found.peak_memory_bytes / 2**30})
    for name, figure in report.figures(found).items():
        run.figure(figure, f"figures/{name}.png")
    for file in ("report.html", "report.json"):
        run.artifact(os.path.join(out, file))
    for name, label in MODELS.items():
        path, manifest = made[name]
        search = getattr(found, f"{label}_search").model
        figures = {f"search_{metric}": value for metric, value in search.model_dump().items()} | train.figures(path)
        tracked.log_model(name, path, manifest, f"cpt-ray-{label}", figures, made[f"{label}_pairs"][1])


def _curve(path: str) -> Curve:
    return Curve(rows=read_metrics(os.path.join(path, METRICS)))


def _space(pairs: str, model: str) -> Space:
    """Of held-out pairs that are spread over all of them."""
    from cpt_ray.evaluate.space import space_of
    from cpt_ray.model.embedder import Embedder
    from cpt_ray.pairs.splits import HELDOUT, read_side

    held = read_side(pairs, HELDOUT, ["x", "y"])
    held = held.take(np.unique(np.linspace(0, held.num_rows - 1, min(SPREAD, held.num_rows), dtype=np.int64)))
    embed = Embedder(model).embed
    return Space(**space_of(embed(held.column("x").to_pylist(), "x"), embed(held.column("y").to_pylist(), "y")))


def _examples(made: Mapping[str, tuple[str, Manifest]], queries: Sequence[str]) -> list[Example]:
    from cpt_ray.model.embedder import Embedder
    from cpt_ray.serve.index import read_index
    from cpt_ray.serve.search import search

    index, embedder = read_index(made["index"][0]), Embedder(made["code_model"][0])
    found: list[Example] = []
    for query in queries:
        hits = [
            Hit(score=a.score, where=a.where, name=a.name, summary=a.summary, group=str(a.row.get("group", "")))
            for a in search(query, index, embedder.embed, 3)
        ]
        found.append(Example(query=query, hits=hits))
    return found


def _own_code() -> dict[str, str]:
    # By folder: an installed package has the pipelines within the library, a checkout beside it.
    folders = (Path(cpt_ray.__file__).parent, Path(__file__).parent)
    files = [(folder, path) for folder in folders for path in sorted(folder.rglob("*.py"))]
    return {f"{folder.name}/{path.relative_to(folder)}": fingerprint(path.read_text()) for folder, path in files}
