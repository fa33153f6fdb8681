"""Options of tracking."""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options


class TrackingOptions(Options):
    """Where MLflow keeps its runs."""

    uri: str | None = Field(None, description="sqlite:///path, or an MLflow server; null: mlflow.db in cluster.outputs")
    experiment: str = Field("cpt-ray", description="MLflow experiment")
