"""A small MLflow tracker that survives kills: every run has a key of ours, and is found again by it.

1. A `Tracker` creates the database schema and the experiment, one process at a time (cold parallel writers die in the
   migration).
2. `tracker.run(key, name, parent=...)` finds the run with that key or creates it. A finished run is not touched
   again: whatever is logged to it is left out. A run that a kill left RUNNING goes on; steps that it already holds
   are not logged twice.
3. A `TrackedRun` pickles as address and run id, so a worker logs to it too: `run.metrics` is the function that
   training reports through.

Keys are identities (a manifest's digest, a stage's name within its parent), never times. MLflow is imported on first
use: it takes seconds. Everything here waits for MLflow and raises its errors; pipelines speak to it through
`tracking.outbox`, of which `Player` is the other end.
"""

import importlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cpt_ray.compat.mlflow import everywhere
from cpt_ray.errors import UserError
from cpt_ray.options import flatten
from cpt_ray.tracking.outbox import Message, Published, Refused, ending

try:
    import fcntl
except ImportError:  # pragma: no cover - only Windows lacks it, and there parallel cold starts may collide
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("cpt_ray")

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

KEY = "cpt_ray.key"
PARENT = "mlflow.parentRunId"
BATCH = 500
"""Metrics buffered at most; MLflow takes 1,000 in one call."""
SECONDS_BETWEEN_FLUSHES = 2.0
SQLITE = "sqlite:///"
DATABASE_LOCK = 0x6370742D726179
"""Whose number is ours among the advisory locks of a Postgres database: `cpt-ray` in ASCII."""
DIGEST = "cpt_ray.digest"
DESCRIPTION = """\
Text and code embedding models by contrastive pre-training on pairs (cpt-ray). A run is one command; below it are its
stages and the trials of its sweep. Models are compared by `search_mrr` (among 1,000 held-out candidates), else by
`heldout_mrr` (as training measures it). Rows read, kept and dropped are metrics of each stage, its data the datasets
of its run."""
"""Of an experiment, in Markdown, as the UI shows it."""
FIGURES = ("search_mrr", "heldout_mrr")
"""What versions of a registered model are compared by, the one that counts first."""
LONGEST_NAME = 250
_ODD = re.compile(r"[^\w.\- :]")
"""Of a parameter's name; MLflow takes slashes too, but not every path."""
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
"""Codes of what MLflow understood and will not have; of all others a second try may come to more."""


class Tracker:
    """One experiment in one MLflow store.

    `uri`: `sqlite:///path/mlflow.db` or the address of an MLflow server. `artifacts`: folder or URI for files; by
    default the folder `mlartifacts` beside the SQLite file, or the server's own place.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str | None = None) -> None:
        uri = address(uri)
        if uri.startswith(SQLITE):
            database = Path(uri.removeprefix(SQLITE))
            database.parent.mkdir(parents=True, exist_ok=True)
            artifacts = artifacts or str(database.parent / "mlartifacts")
        if artifacts and "://" not in artifacts:
            artifacts = Path(artifacts).absolute().as_uri()
        self.uri = uri
        with _alone(uri):
            self._client = _client(uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                # The kind opens the UI on trainings and models, not on traces of language models.
                about = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": DESCRIPTION}
                found = self._client.get_experiment(self._client.create_experiment(experiment, artifacts, about))
            elif found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
        self._experiment = found.experiment_id

    def run(
        self,
        key: str,
        name: str,
        *,
        parent: "TrackedRun | None" = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        started: int | None = None,
    ) -> "TrackedRun":
        """The run with this key below `parent`, found or created; `params` may be nested and are logged flat. `started` is
        when its work began, in milliseconds since the epoch; by default now."""
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
            made = self._client.create_run(self._experiment, start_time=started, tags=marks, run_name=name)
            run = TrackedRun(self.uri, made.info.run_id)
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
        self.end(ending(kind))

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, nested keys joined by dots; what MLflow does not take in a name, as of a source that is called
        `web@2026`, becomes `_`. Those the run holds already stay; another value for one is an error."""
        from mlflow.entities import Param

        if self.finished or not values:
            return
        held = self._client.get_run(self.id).data.params
        flat = {_ODD.sub("_", name)[:LONGEST_NAME]: str(value)[:6000] for name, value in flatten(values).items()}
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

    def metrics(self, step: int, values: Mapping[str, float], at: int | None = None) -> None:
        """Log numbers at a step, buffered. A name has letters, digits, `_`, `-`, `.`, `/` and blanks (`recall_at_10`,
        not `recall@10`). `at` is when they came about, in milliseconds since the epoch; by default now."""
        if self.finished:
            return
        now = int(time.time() * 1000) if at is None else at
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
        digest: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        data: Mapping[str, str] | None = None,
        registered: str | None = None,
        alias: str = "",
        loader: str = "cpt_ray.serve.pyfunc",
    ) -> None:
        """Log a trained model's folder as a LoggedModel of this run, once, also when the run has ended.

        `digest` is the model's; the module `loader` writes it as MLflow's kind (`save(folder, to)`). `metrics` are its
        figures at `step`, the one that counts first; `data` (name, digest) is what they were measured on. `registered`
        makes it a version in the registry; `alias` is moved to it if it is better than the version that has it, by the
        first of the metrics that both have. The others of that name stay what they are.
        """
        model_id = self._logged_model(folder, digest, params or {}, loader)
        figures = dict(metrics or {})
        held = {metric.key for metric in self._client.get_logged_model(model_id).metrics or []}
        if new := {name: value for name, value in figures.items() if name not in held}:
            from mlflow.entities import Metric

            about = {"dataset_name": data["name"], "dataset_digest": data["digest"][:36]} if data else {}
            now = int(time.time() * 1000)
            told = [Metric(name, v, now, step, model_id=model_id, run_id=self.id, **about) for name, v in new.items()]
            self._client.log_batch(self.id, metrics=told)
        if registered:
            version = self._register(registered, model_id, digest, figures)
            if alias:
                self._promote(registered, version, alias, figures)

    def end(self, status: str = "FINISHED", at: int | None = None) -> None:
        """Flush, and close the run with this status; `at` in milliseconds since the epoch, by default now, and never before
        the run began: a manifest knows its time to the second."""
        if not self.finished:
            self.flush()
            if at is not None:
                at = max(at, self._client.get_run(self.id).info.start_time)
            self._client.set_terminated(self.id, status, at)
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

    def _logged_model(self, folder: str, digest: str, params: Mapping[str, Any], loader: str) -> str:
        """The id of this run's LoggedModel of that digest, made where it is not there yet or a kill left it half made."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.entities.logged_model_status import LoggedModelStatus
        from mlflow.models import Model

        run = self._client.get_run(self.id)
        wanted = f"source_run_id = '{self.id}' AND tags.`{DIGEST}` = '{digest}'"
        found = self._client.search_logged_models([run.info.experiment_id], wanted)
        if found and found[0].status == LoggedModelStatus.READY:
            return str(found[0].model_id)
        logged = (
            found[0]
            if found
            else self._client.create_logged_model(
                run.info.experiment_id,
                name=str(run.info.run_name),
                source_run_id=self.id,
                tags={DIGEST: digest},
                params={name: str(value) for name, value in flatten(params).items()},
                model_type="embedding",
            )
        )
        with tempfile.TemporaryDirectory() as scratch:
            staged = os.path.join(scratch, "model")
            importlib.import_module(loader).save(folder, staged)
            about = Model.load(staged)
            about.run_id, about.model_id, about.model_uuid = self.id, logged.model_id, logged.model_id
            about.artifact_path = logged.artifact_location
            about.save(os.path.join(staged, "MLmodel"))
            self._client.log_model_artifacts(logged.model_id, staged)
        self._client.log_outputs(self.id, [LoggedModelOutput(logged.model_id, step=0)])
        self._client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        return str(logged.model_id)

    def _register(self, name: str, model_id: str, digest: str, figures: Mapping[str, float]) -> str:
        from mlflow.exceptions import MlflowException

        held = self._client.search_model_versions(f"name = '{name}'")
        same = [version for version in held if version.tags.get(DIGEST) == digest]
        if same:
            return str(same[0].version)
        try:
            self._client.create_registered_model(name, description="Text and code embeddings; see the versions' tags.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {DIGEST: digest} | {figure: f"{value:.6g}" for figure, value in figures.items()}
        said = ", ".join(f"{figure} {value:.4f}" for figure, value in figures.items())
        with everywhere(self.uri):  # its SQL registry looks a LoggedModel up there, whatever its client's URI is
            made = self._client.create_model_version(
                name, f"models:/{model_id}", self.id, tags=tags, description=said, model_id=model_id
            )
        versions = [{"name": name, "version": made.version}]
        self._client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps(versions)})
        return str(made.version)

    def _promote(self, name: str, version: str, alias: str, figures: Mapping[str, float]) -> None:
        """Move the alias to `version` where it is the better one."""
        holder = self._client.get_registered_model(name).aliases.get(alias)
        if holder is not None and str(holder) == version:
            return
        if holder is not None:
            tags = self._client.get_model_version(name, str(holder)).tags
            common = next((figure for figure in figures if figure in tags), None)
            if common is None and any(tag in tags for tag in FIGURES):
                log.info("MLflow: %s %s stays %s: version %s has no figure to compare by", name, holder, alias, version)
                return
            if common is not None and not figures[common] > float(tags[common]):
                log.info(
                    "MLflow: %s %s stays %s by %s: %s, and %.4f of version %s",
                    *(name, holder, alias, common, tags[common], figures[common], version),
                )
                return
        self._client.set_registered_model_alias(name, alias, version)
        log.info("MLflow: %s %s is the %s%s", name, version, alias, f", before {holder}" if holder else "")


@dataclass(frozen=True)
class _Told:
    """A manifest as a message carries it."""

    step: str
    digest: str
    rows: int
    columns: dict[str, str]


class Player:
    """Does what messages say: the other end of an outbox. It knows runs by the keys that messages give."""

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri, self._experiment = uri, experiment
        self._tracker: Tracker | None = None
        self._opened: dict[str, Message] = {}
        self._runs: dict[str, TrackedRun] = {}

    def connect(self) -> Any:
        """Reach MLflow anew; returns what sends. Runs are looked up again: it is not known how far the last call came."""
        self._tracker, self._runs = Tracker(self._uri, self._experiment), {}
        return self._send

    def _send(self, batch: Sequence[Message]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._do(batch)
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise Refused(str(error)) from error
            raise
        except FileNotFoundError as error:
            raise Refused(str(error)) from error
        except OSError:  # whatever the net and the disk say, requests' own errors too
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Refused(f"{type(error).__name__}: {error}") from error

    def _do(self, batch: Sequence[Message]) -> None:
        key, call = batch[0]["run"], batch[0]["call"]
        if call == "open":
            self._opened[key] = batch[0]
            self._runs.pop(key, None)
        run = self._run(key)
        if call == "metrics":
            for message in batch:
                run.metrics(message["step"], message["values"], message["at"])
            run.flush()
        elif call != "open":
            arguments = {name: value for name, value in batch[0].items() if name not in ("run", "call")}
            if call == "dataset":
                arguments["manifest"] = _Told(**arguments["manifest"])
            getattr(run, call)(**arguments)

    def _run(self, key: str) -> TrackedRun:
        if key not in self._runs:
            told = self._opened[key]
            parent = self._run(told["parent"]) if told["parent"] else None
            assert self._tracker is not None
            self._runs[key] = self._tracker.run(
                told["own"], told["name"], parent=parent, tags=told["tags"], started=told["started"]
            )
        return self._runs[key]


def load() -> None:
    """Import MLflow in the thread that calls: two threads that import it and what it shares with others may stumble."""
    _settle()
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def address(uri: str) -> str:
    """`uri` with a SQLite file's whole path. UserError for a store that MLflow does not have."""
    if not uri.startswith((SQLITE, "postgresql", "mysql", "http://", "https://")):
        raise UserError(
            "MLflow's plain-file store is gone",
            where=f"tracking.uri={uri}",
            fix="use sqlite:///path/mlflow.db or a server",
        )
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


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


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time: those that create a store together die in each other's migration. A file's lock beside SQLite;
    in Postgres a lock of the database itself, since trials may start on several machines."""
    if uri.startswith(SQLITE) and fcntl is not None:
        with open(f"{uri.removeprefix(SQLITE)}.lock", "w") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            yield
    elif uri.startswith("postgresql"):
        from sqlalchemy import NullPool, create_engine, text

        with create_engine(uri, poolclass=NullPool).connect() as held:  # closed, it lets go
            held.execute(text("SELECT pg_advisory_lock(:key)"), {"key": DATABASE_LOCK})
            yield
    else:
        yield


def _client(uri: str) -> "MlflowClient":
    _settle()
    from mlflow import MlflowClient

    for name in ("mlflow.store.db.utils", "mlflow.pyfunc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri, registry_uri=uri)


def _settle() -> None:
    """MLflow reads these when it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # With a server, the end of each run would print two lines among those of a command.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # By itself it tries seven times, for minutes. Ours are the outbox's to repeat.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
