"""Rows as mined functions have them, and vectors of length 1."""

import numpy as np
import pyarrow as pa


def functions(first: int, n: int) -> pa.Table:
    """Rows as mined functions have them, with code of all lengths."""
    ids = range(first, first + n)
    return pa.table(
        {
            "function_id": [f"f{i}" for i in ids],
            "group": [f"dist{i % 3}" for i in ids],
            "version": ["1.0"] * n,
            "path": [f"pkg/mod{i}.py" for i in ids],
            "start_line": pa.array([i + 1 for i in ids], pa.int32()),
            "end_line": pa.array([i + 9 for i in ids], pa.int32()),
            "qualname": [f"Class.name_{i}" for i in ids],
            "summary": [f"Does thing\nnumber {i}." for i in ids],
            "licence": ["MIT"] * n,
            "code": [f"def name_{i}():\n" + "    x = 1\n" * (i % 7) + f"    return {i}" for i in ids],
        }
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
