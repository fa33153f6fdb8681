"""How MLflow opens a logged model (`tracking.mlflow`, `TrackedRun.model`): `mlflow.pyfunc.load_model(...)` without
pickle."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpt_ray.model.delimiters import Side
from cpt_ray.model.embedder import Embedder


class EmbeddingModel:
    """`predict(texts)` gives (N, D) float32; `params={"side": "y"}` embeds documents or code instead of queries."""

    def __init__(self, folder: str) -> None:
        self._embedder = Embedder(folder)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        side: Side = "y" if (params or {}).get("side", "x") == "y" else "x"
        column = model_input.iloc[:, 0] if hasattr(model_input, "iloc") else model_input
        return self._embedder.embed([str(text) for text in column], side)


def _load_pyfunc(folder: str) -> EmbeddingModel:
    """MLflow's entry."""
    return EmbeddingModel(folder)
