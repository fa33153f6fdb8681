#!/usr/bin/env bash
# What: an MlflowClient of one store cannot register a LoggedModel of that store, and a version never says which it was.
#
# MLflow 3.17.2, SQLite store, Python 3.11.
#
# Expected: `MlflowClient(uri, registry_uri=uri).create_model_version(name, "models:/<model id>", model_id=<model id>)` finds
#   the LoggedModel in the store that the client was made for, and the version's `model_id` is that id.
# Seen: the SQL registry asks a fresh `MlflowClient()`, which is that of the *global* tracking URI: "Logged model with ID ...
#   not found", although the same client gives it by get_logged_model. With the global URI set it works, but `model_id` of the
#   version reads None all the same: the argument is used to look a run up and then dropped; only `source` tells.
#
# Why it matters: pipelines that speak to MLflow through clients (several stores, threads, no global state) work for runs,
#   metrics and LoggedModels, and fail in the last call, when the training is over. Set the global tracking URI around
#   create_model_version, and read the id from `source`.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3.11 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet "mlflow==3.17.2"
cd "$here"
MLFLOW_DISABLE_TELEMETRY=true "$here/venv/bin/python" - "$here" <<'PYTHON'
import logging
import sys
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

logging.disable(logging.WARNING)
print("mlflow", mlflow.__version__)
uri = f"sqlite:///{sys.argv[1]}/own.db"
client = MlflowClient(uri, registry_uri=uri)
experiment = client.create_experiment("e", artifact_location=f"file://{sys.argv[1]}/artifacts")
model = client.create_logged_model(experiment, name="m")
client.finalize_logged_model(model.model_id, "READY")
client.create_registered_model("r")
source = f"models:/{model.model_id}"
print("the client itself finds the model:", client.get_logged_model(model.model_id).model_id == model.model_id)
try:
    client.create_model_version("r", source, model_id=model.model_id)
    sys.exit("changed: the registry looks where its client points")
except MlflowException as error:
    print("create_model_version:", str(error)[:160])
mlflow.set_tracking_uri(uri)
version = client.create_model_version("r", source, model_id=model.model_id)
held = client.get_model_version("r", version.version)
print("with the global URI set: version", held.version, "source", held.source, "model_id", held.model_id)
if held.model_id is not None:
    sys.exit("changed: the version knows its model")
print("as stated")
PYTHON
