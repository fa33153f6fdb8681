"""MLflow's internals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models.signature import ModelSignature

VERSION = "3.17.2"


def hands_over_as_given(signature: ModelSignature) -> ModelSignature:
    """As for a model with type hints: pyfunc is handed what it was given. Otherwise MLflow would cut a DataFrame to its
    first column, and a list of lists likewise, before anyone could object."""
    signature._is_signature_from_type_hint = True
    return signature
