"""A trained model as MLflow's own kind, which `mlflow.pyfunc.load_model` and `mlflow models serve` open without pickle.

`save` writes it: the weights once, our code beside them and the versions of what it imports, so that an environment that
MLflow makes from public packages alone can run it. `_load_pyfunc` opens it.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cpt_ray.compat.mlflow import hands_over_as_given
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder

log = logging.getLogger("cpt_ray")

REQUIRED = (
    *("accelerate", "fsspec", "mlflow", "numpy", "psutil", "pyarrow", "pydantic", "rich", "safetensors"),
    *("scipy", "tokenizers", "torch", "transformers", "xxhash"),
)
"""What the code that travels with a model imports."""
ROOMS = ("artifacts", "compat", "model", "pairs", "serve")
"""Folders of our package that opening a model needs; its single files come along."""
OF_OTHERS = {"modules.json", "router_config.json", "config_sentence_transformers.json", "metrics.jsonl"}
"""Files of a model folder that only sentence-transformers reads, or nobody who embeds."""
EXAMPLE = ["parse an ISO date", "read a JSON file"]


class EmbeddingModel:
    """`predict(texts)` gives (N, D) float32; `params={"side": "y"}` embeds documents or code instead of queries."""

    def __init__(self, folder: str, device: str = "auto") -> None:
        self._embedder = Embedder(folder, device=device)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """One row for each text of `model_input` (see `texts_of`). A text longer than the model takes is cut, and a
        warning says how many were. UserError for what is no text, and for a side that is neither x nor y."""
        side = (params or {}).get("side", "x")
        if side not in ("x", "y"):
            raise UserError(
                f"there is no side {side!r}", where="params.side", fix="x for queries, y for documents or code"
            )
        texts = texts_of(model_input)
        vectors = self._embedder.embed(texts, side)
        if cut := int((self._embedder.lengths(texts) > self._embedder.limit(side)).sum()):
            log.warning(
                "%d of %d texts are longer than %d tokens and were cut", cut, len(texts), self._embedder.limit(side)
            )
        return vectors


def texts_of(given: Any) -> list[str]:
    """The texts of what MLflow hands over: one string, a list, an array or a Series of strings, or a DataFrame with a
    column `text` (or with one column only). UserError for anything else: a wrong guess would be a vector of nonsense."""
    if isinstance(given, str):
        return [given]
    columns = getattr(given, "columns", None)
    if columns is not None:
        if "text" not in columns and len(columns) != 1:
            named = ", ".join(map(str, columns))
            raise UserError(f"which of the columns {named} holds the texts?", where="input", fix="name it `text`")
        given = given["text"] if "text" in columns else given.iloc[:, 0]
    if given is None or isinstance(given, Mapping | bytes) or not hasattr(given, "__iter__"):
        raise UserError(f"{type(given).__name__} is no list of texts", where="input", fix='give ["a text", "another"]')
    texts = list(given)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(
                f"row {row} is no text but {type(text).__name__}", where="input", fix="leave it out, or write it out"
            )
    return [str(text) for text in texts]


def save(folder: str, to: str) -> None:
    """Write the model folder `folder` as an MLflow model into the new folder `to`; its files are links to those there."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as scratch:
        code, data = Path(scratch, "cpt_ray"), Path(scratch, "model")
        _copy_code(code)
        data.mkdir()
        (data / "README").write_text("A model folder of cpt-ray: cpt_ray.json says how texts are delimited and cut.\n")
        mlflow.pyfunc.save_model(
            to,
            loader_module="cpt_ray.serve.pyfunc",
            data_path=str(data),
            code_paths=[str(code)],
            pip_requirements=requirements(),
            signature=_signature(),
            input_example=EXAMPLE,
        )
    inside = Path(to, "data", "model")
    for file in Path(folder).iterdir():
        if file.is_file() and not file.name.startswith(".") and file.name not in OF_OTHERS:
            os.symlink(file.resolve(), inside / file.name)  # MLflow copies what links point at


def requirements() -> list[str]:
    """Public packages by the versions that are installed here; `2.13.0+cpu` is a build of 2.13.0 that no index has."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIRED]


def _signature() -> Any:
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    found = ModelSignature(
        inputs=Schema([ColSpec(DataType.string)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, -1))]),
        params=ParamSchema([ParamSpec("side", DataType.string, "x")]),
    )
    return hands_over_as_given(found)


def _copy_code(to: Path) -> None:
    import cpt_ray

    package = Path(cpt_ray.__file__).parent
    leave = shutil.ignore_patterns("__pycache__", "*.j2")
    to.mkdir()
    for file in package.glob("*.py"):
        shutil.copy(file, to / file.name)
    for room in ROOMS:
        shutil.copytree(package / room, to / room, ignore=leave)


def _load_pyfunc(folder: str) -> EmbeddingModel:
    """MLflow's entry."""
    return EmbeddingModel(folder)
