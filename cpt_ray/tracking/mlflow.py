"""A small MLflow tracker that survives kills: every run has a key of ours, and is found again by it.

1. The driver opens a `Tracker`, which creates the database schema and the experiment once (cold parallel writers die
   in the migration).
2. `tracker.run(key, name, parent=...)` finds the run with that key or creates it. A finished run is not touched
   again: whatever is logged to it is left out. A run that a kill left RUNNING goes on; steps that it already holds
   are not logged twice.
3. A `TrackedRun` pickles as address and run id, so a worker logs to it too: `run.metrics` is the function that
   training reports through.

Keys are identities (a manifest's digest, a stage's name within its parent), never times. MLflow is imported on first
use: it takes seconds.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from cpt_ray.errors import UserError
from cpt_ray.options import flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

KEY = "cpt_ray.key"
PARENT = "mlflow.parentRunId"
BATCH = 500
"""Metrics buffered at most; MLflow takes 1,000 in one call."""
SECONDS_BETWEEN_FLUSHES = 2.0


class Published(Protocol):
    """What the tracker needs of an artifact's manifest."""

    @property
    def step(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> dict[str, str]: ...


class Tracker:
    """One experiment in one MLflow store.

    `uri`: `sqlite:///path/mlflow.db` or the address of an MLflow server. `artifacts`: folder or URI for files; by
    default the folder `mlartifacts` beside the SQLite file, or the server's own place.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str | None = None) -> None:
        if not uri.startswith(("sqlite:///", "postgresql", "mysql", "http://", "https://")):
            raise UserError(
                "MLflow's plain-file store is gone",
                where=f"tracking.uri={uri}",
                fix="use sqlite:///path/mlflow.db or a server",
            )
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///")).absolute()
            database.parent.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{database}"
            artifacts = artifacts or str(database.parent / "mlartifacts")
        if artifacts and "://" not in artifacts:
            artifacts = Path(artifacts).absolute().as_uri()
        self.uri = uri
        self._client = _client(uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(experiment, artifact_location=artifacts)
        )

    def run(
        self,
        key: str,
        name: str,
        *,
        parent: "TrackedRun | None" = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> "TrackedRun":
        """The run with this key below `parent`, found or created; `params` may be nested and are logged flat."""
        key = f"{parent.id}/{key}" if parent else key
        found = self._client.search_runs(
            [self._experiment], f"tags.`{KEY}` = '{key}'", order_by=["attributes.start_time DESC"]
        )
        finished = next((run for run in found if run.info.status == "FINISHED"), None)
        if finished is not None:
            return TrackedRun(self.uri, finished.info.run_id, finished=True)
        if found:
            run = TrackedRun(self.uri, found[0].info.run_id, reused=True)
            self._client.update_run(run.id, status="RUNNING")
        else:
            marks = {KEY: key} | ({PARENT: parent.id} if parent else {})
            run = TrackedRun(self.uri, self._client.create_run(self._experiment, tags=marks, run_name=name).info.run_id)
        run.tags(tags or {})
        run.params(params or {})
        return run


class TrackedRun:
    """One MLflow run. Used as a context manager it ends FINISHED, or FAILED (KILLED on an interrupt) when the block
    raises."""

    def __init__(self, uri: str, run_id: str, *, finished: bool = False, reused: bool = False) -> None:
        self.uri, self.id, self.finished, self._reused = uri, run_id, finished, reused
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._steps: set[tuple[str, int]] | None = None
        self._own_client: MlflowClient | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "id": self.id, "finished": self.finished, "reused": self._reused}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["uri"], state["id"], finished=state["finished"], reused=state["reused"])  # type: ignore[misc]

    def __enter__(self) -> "TrackedRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.end()
        else:
            self.end("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, nested keys joined by dots. Those the run holds already stay; another value for one is an
        error."""
        from mlflow.entities import Param

        if self.finished or not values:
            return
        held = self._client.get_run(self.id).data.params
        flat = {name: str(value)[:6000] for name, value in flatten(values).items()}
        for name in flat.keys() & held.keys():
            if flat[name] != held[name]:
                raise ValueError(
                    f"run {self.id} holds {name}={held[name]!r}, not {flat[name]!r}: its key is too coarse"
                )
        new = [Param(name, value) for name, value in flat.items() if name not in held]
        for start in range(0, len(new), 100):
            self._client.log_batch(self.id, params=new[start : start + 100])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; those with the value None are left out."""
        from mlflow.entities import RunTag

        present = [RunTag(name, str(value)) for name, value in values.items() if value is not None]
        if present and not self.finished:
            self._client.log_batch(self.id, tags=present)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers at a step, buffered. A name has letters, digits, `_`, `-`, `.`, `/` and blanks (`recall_at_10`,
        not `recall@10`)."""
        if self.finished:
            return
        now = int(time.time() * 1000)
        for name, value in values.items():
            if "@" in name:
                raise ValueError(f"MLflow allows no @ in a metric name: {name!r}")
            if (name, step) not in self._held_steps():
                self._held_steps().add((name, step))
                self._buffer.append((name, float(value), now, step))
        if len(self._buffer) >= BATCH or time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log a whole curve: rows with `step` and numbers; what is no number in a row is left out."""
        for row in rows:
            numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "step"}
            self.metrics(int(row["step"]), numbers)
        self.flush()

    def flush(self) -> None:
        """Write the buffered metrics."""
        if self._buffer:
            from mlflow.entities import Metric

            for start in range(0, len(self._buffer), BATCH):
                part = [Metric(name, value, at, step) for name, value, at, step in self._buffer[start : start + BATCH]]
                self._client.log_batch(self.id, metrics=part)
            self._buffer.clear()
        self._flushed = time.monotonic()

    def dataset(self, path: str, manifest: Published, context: str = "training") -> None:
        """Log an artifact as an input dataset: the manifest's digest is the dataset's, its columns the schema."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if self.finished:
            return
        uri = path if "://" in path else Path(path).absolute().as_uri()
        kind = uri.split("://", 1)[0]
        columns = [{"type": kind_of, "name": name, "required": True} for name, kind_of in manifest.columns.items()]
        entity = Dataset(
            name=manifest.step,
            digest=manifest.digest[:36],
            source_type="local" if kind == "file" else kind,
            source=json.dumps({"uri": uri}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"num_rows": manifest.rows}),
        )
        self._client.log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])

    def figure(self, figure: "Figure", file: str) -> None:
        """Log a matplotlib figure, for example as `figures/loss.png`."""
        if not self.finished:
            self._client.log_figure(self.id, figure, file)

    def table(self, rows: Sequence[Mapping[str, Any]], file: str) -> None:
        """Log rows as a table the UI shows, for example `leaderboard.json`; replaces what a killed run logged there."""
        if self.finished or not rows:
            return
        repository = self._artifacts()
        if any(entry.path == file for entry in repository.list_artifacts(os.path.dirname(file) or None)):
            repository.delete_artifacts(file)  # log_table appends to what is there
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self._client.log_table(self.id, {name: [row.get(name) for row in rows] for name in columns}, file)

    def artifact(self, path: str, folder: str | None = None) -> None:
        """Log a file, or the files of a folder, below `folder` of the run's artifacts."""
        if self.finished:
            return
        if os.path.isdir(path):
            self._client.log_artifacts(self.id, path, folder)
        else:
            self._client.log_artifact(self.id, path, folder)

    def model(
        self,
        folder: str,
        *,
        registered: str | None = None,
        alias: str | None = None,
        loader: str = "cpt_ray.serve.pyfunc",
        requirements: Sequence[str] = ("cpt-ray",),
    ) -> None:
        """Log an exported model folder as the pyfunc model `model`, loadable by `mlflow.pyfunc.load_model` without
        pickle: `loader` names the module whose `_load_pyfunc(folder)` opens it. `registered` makes it a version in
        the registry, `alias` points at it."""
        if self.finished:
            return
        import mlflow.pyfunc

        with tempfile.TemporaryDirectory() as scratch:
            staged = os.path.join(scratch, "model")
            mlflow.pyfunc.save_model(
                staged, loader_module=loader, data_path=folder, pip_requirements=list(requirements)
            )
            self._client.log_artifacts(self.id, staged, "model")
        if registered:
            version = self._register(registered)
            if alias:
                self._client.set_registered_model_alias(registered, alias, version)

    def end(self, status: str = "FINISHED") -> None:
        """Flush, and close the run with this status."""
        if not self.finished:
            self.flush()
            self._client.set_terminated(self.id, status)
            self.finished = status == "FINISHED"

    @property
    def _client(self) -> "MlflowClient":
        if self._own_client is None:
            self._own_client = _client(self.uri)
        return self._own_client

    def _held_steps(self) -> set[tuple[str, int]]:
        """(metric, step) that the run holds; asked of the store only where a kill may have left some."""
        if self._steps is None:
            self._steps = set()
            if self._reused:
                for name in self._client.get_run(self.id).data.metrics:
                    self._steps |= {(name, held.step) for held in self._client.get_metric_history(self.id, name)}
        return self._steps

    def _artifacts(self) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self._client.get_run(self.id).info.artifact_uri, tracking_uri=self.uri)

    def _register(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        held = self._client.search_model_versions(f"name = '{name}' and run_id = '{self.id}'")
        if held:
            return str(held[0].version)
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(self._client.create_model_version(name, f"runs:/{self.id}/model", self.id).version)


def provenance_tags() -> dict[str, str]:
    """Tags that say which code and which job a run came from: `git.commit` (with `-dirty` where files differ) and
    `ray.job`."""
    tags = {}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["git.commit"] = commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
        tags["mlflow.source.git.commit"] = commit
    ray = sys.modules.get("ray")  # importing it takes seconds; a process that never did has no job
    if ray is not None and ray.is_initialized():
        tags["ray.job"] = ray.get_runtime_context().get_job_id()
    return tags


def _git(*words: str) -> str:
    """Output of git in the folder of this package; empty where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _client(uri: str) -> "MlflowClient":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from mlflow import MlflowClient

    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri, registry_uri=uri)
