"""Where the shared evaluation data is, and a model simple enough to reason about."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.serve.conftest import model_folder

__all__ = ["model_folder"]

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"


@pytest.fixture(scope="session")
def eval_data() -> Path:
    """Folder of the shared evaluation sets; a plain clone has none."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data/eval is not beside this checkout")
    return SHARED


def bag_of_words(texts: list[str], side: str = "x") -> np.ndarray:
    """L2-normalised float32 (N, 256): hashed word counts, the same for both sides."""
    vectors = np.zeros((len(texts), 256), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            digest = hashlib.blake2b(word.encode(), digest_size=2).digest()
            vectors[row, digest[0]] += 1 if digest[1] % 2 else -1
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms)


@pytest.fixture
def embed():
    """`embed(texts, side)` by hashed word counts."""
    return bag_of_words
