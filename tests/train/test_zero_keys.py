"""What may be set of DeepSpeed is what DeepSpeed takes."""

from __future__ import annotations

from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

from cpt_ray.train.zero_keys import KEYS, OURS


def test_the_keys_are_those_of_deepspeed() -> None:
    """It ignores others without a word, so a new version must be looked at."""
    fields = DeepSpeedZeroConfig.model_fields
    assert set(fields) | {field.alias for field in fields.values() if field.alias} == KEYS
    assert set(OURS) <= KEYS
