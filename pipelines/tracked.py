"""What the pipelines tell MLflow: a run per stage below one parent, found again by identity after a kill."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType

from cpt_ray.artifacts import Manifest, Wanted, fingerprint, read_manifest
from cpt_ray.errors import UserError
from cpt_ray.options import Options
from cpt_ray.progress import Bar, progress
from cpt_ray.tracking.follow import follow
from cpt_ray.tracking.mlflow import FIGURES, Player, address, load, provenance_tags
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.tracking.outbox import PATIENCE, Outbox, ReportedRun

PATIENCE_WHEN_KILLED = 5.0
"""Seconds that MLflow has when the process was told to stop."""
WAITING = "mlflow.waiting"
"""Folder below cluster.outputs with what MLflow could not take yet."""


class Tracked:
    """One parent run, found again by `key` and `params`, and the runs of its stages; none of it waits for MLflow.

    A context manager: leaving it ends the parent.
    """

    def __init__(self, options: TrackingOptions, outputs: str, name: str, key: str, params: Options) -> None:
        self.uri = address(options.uri or f"sqlite:///{outputs.rstrip('/')}/mlflow.db")
        load()
        about = {"uri": self.uri, "experiment": options.experiment}
        self._outbox = Outbox(posixpath.join(outputs, WAITING), about, Player(**about).connect)
        # Where it runs is no part of what it is: a run may go on elsewhere, and MLflow's parameters never change.
        plain = params.model_dump(mode="json", exclude={"cluster", "tracking"})
        tags = provenance_tags()
        self.parent = ReportedRun(self._outbox, f"{key}/{fingerprint(plain)}", name, tags=tags)
        self.parent.params(plain)
        self.commit = tags.get("git.commit", "")
        self._open: dict[str, ReportedRun] = {}

    def __enter__(self) -> Tracked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for run in [*self._open.values(), self.parent]:
            run.__exit__(kind, error, at)
        self._outbox.close(PATIENCE if kind is None or issubclass(kind, Exception) else PATIENCE_WHEN_KILLED)

    def run(self, name: str, identity: str, started: float | None = None) -> ReportedRun:
        """The run of a stage, found by the identity of what it makes; `started` in seconds since the epoch."""
        if identity not in self._open:
            tags = {"cpt_ray.stage": name, "cpt_ray.identity": identity, **provenance_tags()}
            self._open[identity] = ReportedRun(
                self._outbox, identity, name, parent=self.parent, tags=tags, started=started
            )
        return self._open[identity]

    @contextmanager
    def live(self, name: str, identity: str, metrics: str, total: int, batch_size: int) -> Iterator[None]:
        """While the block trains: progress on the screen and metrics by step to MLflow, from the file it writes."""
        run = self.run(name, identity)
        with progress(name, total=total, unit="steps") as bar, told(run, bar, metrics, batch_size):
            yield

    def log_model(
        self, name: str, path: str, manifest: Manifest, registered: str, figures: Mapping[str, float], data: Manifest
    ) -> None:
        """Register a trained model as of the run that trained it. `figures` were measured on `data`; the alias `champion`
        goes to the best by the first of FIGURES."""
        ordered = {figure: figures[figure] for figure in FIGURES if figure in figures} | dict(figures)
        self.run(name, manifest.identity).model(
            path,
            manifest.digest,
            params=manifest.params,
            metrics=ordered,
            step=int(manifest.extra.get("exported_step", 0)),
            data={"name": data.step, "digest": data.digest},
            registered=registered,
            alias="champion",
        )

    def ended(self, wanted: Wanted, manifest: Manifest) -> None:
        """What a flow tells when an artifact is there."""
        self.finish(posixpath.basename(wanted.path), wanted.path, manifest, wanted.reads)

    def finish(self, name: str, path: str, manifest: Manifest, reads: Sequence[str] = ()) -> ReportedRun:
        """Log what a stage published: parameters, ledger, seconds, and as datasets the artifact and those it was made
        from; the run ends. Its times are those of the work, which may have been done by an earlier command."""
        started = started_at(manifest)
        run = self.run(name, manifest.identity, started)
        run.params(manifest.params)
        run.tags({"cpt_ray.digest": manifest.digest, "cpt_ray.path": path})
        ledger = manifest.balance
        dropped = {f"dropped.{reason}": float(count) for reason, count in ledger.dropped.items()}
        totals = {"rows_in": float(ledger.rows_in), "rows_kept": float(ledger.kept), "seconds": manifest.seconds}
        run.metrics(0, totals | dropped)
        for read in reads:
            try:
                run.dataset(read, read_manifest(read), context="input")
            except UserError:  # no artifact, such as somebody's folder of archives
                continue
        if manifest.columns:
            run.dataset(path, manifest, context=name)
        run.end(at=started + manifest.seconds)
        return run


@contextmanager
def told(run: ReportedRun, bar: Bar, metrics: str, batch_size: int, units: int = 1) -> Iterator[None]:
    """While the block trains: each row of the file `metrics` to `run` by its step, with the `examples` seen until then, and
    the steps to `bar`, as so many `units` each."""
    at = 0

    def listen(step: int, row: dict[str, float]) -> None:
        nonlocal at
        bar.advance((step - at) * units)
        at = step
        run.metrics(step, row | {"examples": step * batch_size})

    with follow(metrics, listen):
        yield


def started_at(manifest: Manifest) -> float:
    """When the work began that published it, in seconds since the epoch."""
    return datetime.fromisoformat(manifest.created).timestamp() - manifest.seconds
