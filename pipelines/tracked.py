"""What the pipelines tell MLflow: a run per stage below one parent, found again by identity after a kill."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from pydantic import Field

from cpt_ray.artifacts import Manifest, Wanted, fingerprint
from cpt_ray.options import Options
from cpt_ray.progress import progress
from cpt_ray.tracking.follow import follow
from cpt_ray.tracking.mlflow import TrackedRun, Tracker, provenance_tags


class TrackingOptions(Options):
    """Where MLflow keeps its runs."""

    uri: str | None = Field(None, description="sqlite:///path, or an MLflow server; null: mlflow.db in cluster.outputs")
    experiment: str = Field("cpt-ray", description="MLflow experiment")


class Tracked:
    """One parent run, found again by `key` and `params`, and the runs of its stages.

    A context manager: leaving it ends the parent.
    """

    def __init__(self, options: TrackingOptions, outputs: str, name: str, key: str, params: Options) -> None:
        uri = options.uri or f"sqlite:///{outputs.rstrip('/')}/mlflow.db"
        self._tracker = Tracker(uri, options.experiment)
        # Where it runs is no part of what it is: a run may go on elsewhere, and MLflow's parameters never change.
        plain = params.model_dump(mode="json", exclude={"cluster", "tracking"})
        tags = provenance_tags()
        self.parent = self._tracker.run(f"{key}/{fingerprint(plain)}", name, params=plain, tags=tags)
        self.uri = uri
        self.commit = tags.get("git.commit", "")
        self._open: dict[str, TrackedRun] = {}

    def __enter__(self) -> Tracked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for run in self._open.values():
            run.__exit__(kind, error, at)
        self.parent.__exit__(kind, error, at)

    def run(self, name: str, identity: str) -> TrackedRun:
        """The run of a stage, found by the identity of what it makes."""
        if identity not in self._open:
            tags = {"cpt_ray.stage": name, "cpt_ray.identity": identity, **provenance_tags()}
            self._open[identity] = self._tracker.run(identity, name, parent=self.parent, tags=tags)
        return self._open[identity]

    @contextmanager
    def live(self, name: str, identity: str, metrics: str, total: int) -> Iterator[None]:
        """While the block trains: progress on the screen and metrics by step to MLflow, from the file it writes."""
        run = self.run(name, identity)
        at = 0

        def listen(step: int, row: dict[str, float]) -> None:
            nonlocal at
            bar.advance(step - at)
            at = step
            run.metrics(step, row)

        with progress(name, total=total, unit="steps") as bar, follow(metrics, listen):
            yield

    def log_model(self, path: str, manifest: Manifest, registered: str) -> None:
        """Log an exported model as a run of its own, and register it; the alias `champion` points at it."""
        with self._tracker.run(f"export/{manifest.digest}", f"{registered} (export)", parent=self.parent) as run:
            run.model(path, registered=registered, alias="champion")

    def ended(self, wanted: Wanted, manifest: Manifest) -> None:
        """What a flow tells when an artifact is there."""
        self.finish(posixpath.basename(wanted.path), wanted.path, manifest)

    def finish(self, name: str, path: str, manifest: Manifest) -> TrackedRun:
        """Log what a stage published: parameters, ledger, seconds, and the artifact as a dataset; the run ends."""
        run = self.run(name, manifest.identity)
        run.params(manifest.params)
        run.tags({"cpt_ray.digest": manifest.digest, "cpt_ray.path": path})
        ledger = manifest.balance
        dropped = {f"dropped.{reason}": float(count) for reason, count in ledger.dropped.items()}
        totals = {"rows_in": float(ledger.rows_in), "rows_kept": float(ledger.kept), "seconds": manifest.seconds}
        run.metrics(0, totals | dropped)
        if manifest.columns:
            run.dataset(path, manifest, context=name)
        run.end()
        return run
