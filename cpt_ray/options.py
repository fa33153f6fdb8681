"""Typed options: the base of every step's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")
HOW = "how"
How = Annotated[T, HOW]
"""Of an option that says how work is done: what comes out is the same, so a build goes on when it changes."""


class Options(BaseModel):
    """Frozen, and a key that is not declared is refused: a misspelt option must never be ignored in silence. So is a number
    that is not finite, which JSON, and with it an artifact's identity, does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def result(self, *besides: str) -> dict[str, Any]:
        """What decides the result, as plain JSON: all options but those that say `How`, and those named `besides`."""
        return {
            name: value.result() if isinstance(value := getattr(self, name), Options) else plain
            for name, plain in self.model_dump(mode="json").items()
            if name not in besides and HOW not in type(self).model_fields[name].metadata
        }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists stay values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
