"""Typed options: the base of every step's configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Frozen, and a key that is not declared is refused: a misspelt option must never be ignored in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
