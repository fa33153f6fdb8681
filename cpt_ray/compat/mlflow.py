"""MLflow's internals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.models.signature import ModelSignature

VERSION = "3.17.2"


def hands_over_as_given(signature: ModelSignature) -> ModelSignature:
    """As for a model with type hints: pyfunc is handed what it was given. Otherwise MLflow would cut a DataFrame to its
    first column, and a list of lists likewise, before anyone could object."""
    signature._is_signature_from_type_hint = True
    return signature


@contextmanager
def everywhere(uri: str) -> Iterator[None]:
    """Inside, `uri` is the tracking URI of the whole process; afterwards all is as it was.

    Setting it to what `get_tracking_uri` gave would fix a default for good, also for processes that are started later: the
    environment's MLFLOW_TRACKING_URI is set by it too, and unset by None whoever had set it.
    """
    from mlflow.environment_variables import MLFLOW_TRACKING_URI
    from mlflow.tracking._tracking_service import utils

    before: Any = utils._tracking_uri
    environment = os.environ.get(MLFLOW_TRACKING_URI.name)
    utils.set_tracking_uri(uri)
    try:
        yield
    finally:
        utils.set_tracking_uri(before)
        if environment is not None:
            os.environ[MLFLOW_TRACKING_URI.name] = environment
