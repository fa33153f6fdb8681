"""A search in a new process imports what one query needs, and nothing of training or evaluation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NOT_NEEDED = ("ray", "deepspeed", "mlflow", "sklearn", "bm25s", "numba", "pandas", "matplotlib", "aiohttp")


def test_a_search_imports_no_ray_and_no_deepspeed() -> None:
    """From the pipeline to the model and the answers' rows."""
    code = f"""
import sys

import cpt_ray.model.embedder, pipelines.search
print(*(name for name in {NOT_NEEDED!r} if name in sys.modules))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []
