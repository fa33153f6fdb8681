"""A sweep of nine, two at a time, killed in the middle: none is trained twice, and MLflow tells of one parent with nine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from cpt_ray.artifacts import read_manifest
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.tracking.outbox import ReportedRun
from pipelines import config, sweep
from tests.pipelines.kills import kill_with_all
from tests.pipelines.test_finetuning import model, pairs  # noqa: F401 - fixtures

ROOT = Path(__file__).parent.parent.parent
SIZES, TEMPERATURES = (8, 16, 32), (0.05, 0.1, 0.2)


def overrides(pairs: str, model: str, outputs: Path) -> list[str]:  # noqa: F811
    return [
        f"pairs={pairs}",
        f"model.init={model}",
        f"cluster.outputs={outputs}",
        f"sweep.over.batches.batch_size={list(SIZES)}",
        f"sweep.over.train.temperature={list(TEMPERATURES)}",
        "sweep.examples=1024",
        "sweep.concurrent=2",
        "train.workers=1",
        "train.threads=1",
        "train.precision=fp32",
        "batches.max_x_tokens=16",
        "batches.max_y_tokens=24",
        "heldout_pairs=16",
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nine_trials_killed_in_the_middle(
    pairs: str,  # noqa: F811
    model: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = overrides(pairs, model, tmp_path)
    command = [sys.executable, "-m", "pipelines.sweep", *words]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=said, stderr=subprocess.STDOUT)
        finished: dict[Path, bytes] = {}
        until = time.monotonic() + 900
        while len(finished) < 3:
            assert process.poll() is None, (tmp_path / "said").read_text()[-6000:]
            assert time.monotonic() < until
            time.sleep(0.05)
            found = (tmp_path / "sweep" / "sweep_trials").glob("batch_size-*/manifest.json")
            finished = {path: path.read_bytes() for path in found}
        kill_with_all(process)
    assert len(finished) < 9

    drawn: dict[str, Any] = {}
    log = ReportedRun.figure
    monkeypatch.setattr(
        ReportedRun, "figure", lambda run, figure, file: (drawn.setdefault(file, figure), log(run, figure, file))
    )
    options = config.load("sweep", sweep.PipelineOptions, words)
    made = sweep.run(options)
    assert {path: path.read_bytes() for path in finished} == finished
    rows = made.extra["trials"]
    assert len(rows) == 9
    assert {row["examples"] for row in rows} == {1024}
    trials = sorted((tmp_path / "sweep" / "sweep_trials").glob("batch_size-*/manifest.json"))
    assert len(trials) == 9

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name(TrackingOptions().experiment)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len(children) == 9
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["cpt_ray.identity"] for run in children} == {
        read_manifest(str(path.parent)).identity for path in trials
    }
    scores = {
        (int(run.data.params["batch_size"]), float(run.data.params["temperature"])): run.data.metrics["heldout_mrr"]
        for run in children
    }
    assert set(scores) == {(size, temperature) for size in SIZES for temperature in TEMPERATURES}
    (axes,) = drawn["figures/sweep.png"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(size) for size in SIZES]
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{value:g}" for value in TEMPERATURES]
    cells = {
        (SIZES[int(cell.get_position()[1])], TEMPERATURES[int(cell.get_position()[0])]): cell.get_text()
        for cell in axes.texts
    }
    assert cells == {point: f"{score:.3f}" for point, score in scores.items()}
    table = json.loads(Path(client.download_artifacts(parent.info.run_id, "leaderboard.json")).read_text())
    column = table["columns"].index
    told = {
        (row[column("batch_size")], row[column("temperature")]): pytest.approx(row[column("mrr")])
        for row in table["data"]
    }
    assert told == scores
