"""What pipelines tell MLflow: one parent per pipeline, place and options, and stages with the times of their work."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.artifacts import Ledger, Manifest, Stage, Wanted, build, read_manifest
from cpt_ray.cluster import ClusterOptions
from cpt_ray.errors import UserError
from cpt_ray.options import Options
from pipelines.tracked import Tracked, TrackingOptions


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no MLflow that fails."""
    monkeypatch.setattr("pipelines.tracked.PATIENCE", 200)


class Toy(Options):
    """A toy pipeline's options."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    rate: float = 0.5


def tracked(folder: Path, options: Toy) -> Tracked:
    return Tracked(options.tracking, str(folder), "toy", f"toy/{folder}", options)


def runs(folder: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.search_runs([client.get_experiment_by_name("cpt-ray").experiment_id], order_by=["start_time"])


def publish(path: str, *, created: str = "2026-03-01T12:00:00+00:00", seconds: float = 90.0) -> Manifest:
    """A toy artifact whose work took 90 seconds, some time ago."""
    with build(path, step="toy", version=1, params={"least": 3}) as work:
        work.publish(Ledger.of("rows", read=5, kept=4, dropped={"short": 1}), rows=4)
    name = Path(path, "manifest.json")
    name.write_text(json.dumps({**json.loads(name.read_text()), "created": created, "seconds": seconds}))
    return read_manifest(path)


def test_a_failed_run_goes_on_elsewhere_and_another_rate_is_another_run(tmp_path):
    """MLflow keeps parameters for ever: what may change between two tries must not be among them, or the second dies."""
    with pytest.raises(KeyError), tracked(tmp_path, Toy()):
        raise KeyError
    assert [run.info.status for run in runs(tmp_path)] == ["FAILED"]
    with tracked(tmp_path, Toy(cluster=ClusterOptions(object_store_mb=1024, workers=1))):
        pass
    assert [run.info.status for run in runs(tmp_path)] == ["FINISHED"]
    with pytest.raises(SystemExit), tracked(tmp_path, Toy(rate=0.25)):
        raise SystemExit(143)
    assert [run.info.status for run in runs(tmp_path)] == ["FINISHED", "KILLED"]


def test_a_finished_stage_holds_its_ledger_its_data_and_its_times(tmp_path):
    """Parameters, rows and reasons of a stage are those of its manifest, and so is how long it took; a second report
    changes nothing."""
    source, path = str(tmp_path / "source"), str(tmp_path / "toy_rows")
    given, manifest = publish(source), publish(path)
    for _ in range(2):
        with tracked(tmp_path, Toy()) as run:
            wanted = Wanted(path, Stage("toy", 1), lambda: manifest, (source, str(tmp_path / "no-artifact")))
            run.ended(wanted, manifest)
    held, parent = runs(tmp_path)
    assert parent.data.params["rate"] == "0.5"
    assert held.data.params == {"least": "3"}
    assert {"rows_in": 5.0, "rows_kept": 4.0, "dropped.short": 1.0}.items() <= held.data.metrics.items()
    assert held.data.tags["cpt_ray.digest"] == manifest.digest
    assert held.info.status == "FINISHED"
    assert held.info.end_time - held.info.start_time == 90_000
    (told,) = held.inputs.dataset_inputs
    assert told.dataset.digest == given.digest
    assert told.tags[0].value == "input"


def test_a_training_costs_nothing_to_track_where_mlflow_is_gone(tmp_path, monkeypatch):
    """A server that does not answer from the first moment to the last: the block runs through, the reports stay on disk,
    and reach the server when it is there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # nobody listens there afterwards
    monkeypatch.setattr("pipelines.tracked.PATIENCE", 0.5)
    manifest = publish(str(tmp_path / "toy_rows"))
    options = Toy(tracking=TrackingOptions(uri=f"http://127.0.0.1:{port}"))
    metrics = tmp_path / "metrics.jsonl"
    with tracked(tmp_path, options) as run:
        with run.live("toy", manifest.identity, str(metrics), 3, 8):
            metrics.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3)))
        run.finish("toy", str(tmp_path / "toy_rows"), manifest)
    monkeypatch.setattr("pipelines.tracked.PATIENCE", 200)
    (left,) = (tmp_path / "mlflow.waiting").glob("*.jsonl")
    # As if the server were up again: the same reports, to a store that is there.
    text = left.read_text().replace(options.tracking.uri, f"sqlite:///{tmp_path}/mlflow.db")
    left.write_text(text)
    with tracked(tmp_path, Toy()):
        pass
    assert not list((tmp_path / "mlflow.waiting").glob("*.jsonl"))
    stage = next(run for run in runs(tmp_path) if run.info.run_name == "toy" and "mlflow.parentRunId" in run.data.tags)
    assert (stage.data.metrics["loss"], stage.data.metrics["examples"]) == (1.0, 24.0)
    assert stage.info.status == "FINISHED"


def test_a_store_that_mlflow_does_not_have_is_the_users_error_at_once(tmp_path):
    with pytest.raises(UserError, match="sqlite"):
        tracked(tmp_path, Toy(tracking=TrackingOptions(uri="./mlruns")))
