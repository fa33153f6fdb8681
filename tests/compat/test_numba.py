"""numba keeps machine code beside a function's file; where there is no place for it, it says so when a function is declared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

from cpt_ray.compat.numba import compiled


def twice(x: int) -> int:
    return 2 * x


def without_a_file() -> Any:
    """As of a console: numba knows no folder for its code, as where none can be written to."""
    names: dict[str, Any] = {}
    exec(compile("def twice(x):\n    return 2 * x\n", "<nowhere>", "exec"), names)
    return names["twice"]


def test_machine_code_is_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    source = tmp_path / "kernels.py"
    source.write_text("from cpt_ray.compat.numba import compiled\n\n\n@compiled()\ndef twice(x):\n    return 2 * x\n")
    for number in range(2):  # read anew, as by a second process
        spec: Any = importlib.util.spec_from_file_location("kernels", source)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "kernels", module)
        spec.loader.exec_module(module)
        assert module.twice(4) == 8
        assert sum(module.twice.stats.cache_hits.values()) == number, "numba finds its machine code otherwise"
    assert list(tmp_path.glob("__pycache__/kernels.twice-*.nbc")), "numba keeps its machine code elsewhere"


def test_without_a_place_for_it_it_is_compiled_all_the_same() -> None:
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(without_a_file())
    function = compiled()(without_a_file())
    assert function(4) == 8


def test_options_reach_numba_and_threads_run_side_by_side() -> None:
    function = compiled(inline="always")(twice)
    assert function.targetoptions["inline"] == "always"
    assert function.targetoptions["nogil"], "a kernel holds the interpreter's lock"
    assert function(3) == 6
