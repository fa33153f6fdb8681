"""benchmarks/gpu.py, as far as a machine without a GPU can hold it to its word."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from benchmarks import gpu


def test_attention_is_held_against_the_oracle() -> None:
    """Each kernel in each precision has an error of its precision's size, and a rate."""
    rows = gpu.attention(replace(gpu.Scale.here(), device="cpu", shapes=((2, 2, 16, 8),)))
    errors = {row["part"]: row["value"] for row in rows if row["metric"] == "relative error"}
    assert {part.split(", ", 1)[1] for part in errors} >= {"math, bfloat16", "math, float32"}
    for part, error in errors.items():
        assert 0 < error < (1e-2 if "bfloat16" in part else 1e-6), part
    assert len(rows) == 2 * len(errors)


def test_a_part_that_does_not_end_costs_itself_alone(tmp_path: Path) -> None:
    """It is stopped at its share of the time, and the reason stands for it."""
    assert gpu.run("step", str(tmp_path), 0.05) == ([], "not done in 0 s")


def test_what_a_machine_may_lack_is_named_as_it_is_imported() -> None:
    for package, module in gpu.NEEDED.items():
        assert importlib.util.find_spec(module) is not None, package
