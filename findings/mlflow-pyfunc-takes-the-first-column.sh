#!/usr/bin/env bash
# What: with the signature that texts need, MLflow cuts the input of a pyfunc model to its first column without a word.
#
# MLflow 3.17.2, Python 3.11.
#
# An embedding model should take ["a", "b"], a Series, or a DataFrame. A signature with a *named* column `text` refuses the
# plain list ("missing inputs ['text']"), also when it is served; so the signature is one *unnamed* string column. Then:
#
# Expected: what has more than one column is refused, or handed over whole, so that the model can choose `text`.
# Seen: of DataFrame(id, text) the model gets `id` alone; of [["a", "b"]] it gets "a" alone. No warning (named schemas do warn of
#   extra columns), HTTP 200 when served. The model cannot notice: the rest is gone before `predict` is called.
#   A model of the same signature that is marked `is_signature_from_type_hint` in MLmodel is handed its input as it came.
#
# Why it matters: identifiers are embedded instead of texts, and nothing fails. Logged tables have an id column first.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3.11 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet "mlflow==3.17.2"
cd "$here"
mkdir data
cat > loader_of_texts.py <<'PYTHON'
class Model:
    def predict(self, model_input, params=None):
        values = model_input.values.tolist() if hasattr(model_input, "values") else model_input
        return [list(getattr(model_input, "columns", [])), values]


def _load_pyfunc(path):
    return Model()
PYTHON
MLFLOW_DISABLE_TELEMETRY=true PYTHONPATH="$here" "$here/venv/bin/python" - <<'PYTHON'
import logging
import sys
import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

logging.disable(logging.WARNING)
print("mlflow", mlflow.__version__)


def model(folder, column, as_it_came=False):
    signature = ModelSignature(inputs=Schema([column]))
    signature._is_signature_from_type_hint = as_it_came
    mlflow.pyfunc.save_model(
        folder, loader_module="loader_of_texts", data_path="data", signature=signature, pip_requirements=["mlflow"]
    )
    return mlflow.pyfunc.load_model(folder)


table = pd.DataFrame({"id": ["17", "18"], "text": ["parse a date", "open a file"]})
named = model("named", ColSpec(DataType.string, "text"))
try:
    named.predict(["parse a date"])
    sys.exit("changed: a named column takes a plain list")
except MlflowException as error:
    print("named column, plain list:", str(error).partition("Error: ")[2][:80])

unnamed = model("unnamed", ColSpec(DataType.string))
seen = unnamed.predict(table)
print("unnamed column, DataFrame(id, text):", seen)
nested = unnamed.predict([["a", "b"]])
print("unnamed column, [['a', 'b']]:", nested)
whole = model("whole", ColSpec(DataType.string), as_it_came=True).predict(table)
print("marked as of a type hint, DataFrame(id, text):", whole)
if seen != [["id"], [["17"], ["18"]]] or nested[1] != [["a"]] or whole[0] != ["id", "text"]:
    sys.exit("changed")
print("as stated")
PYTHON
