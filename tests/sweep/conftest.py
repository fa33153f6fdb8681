"""One thread: with tiny tensors more of them only wait for each other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sweep.toy import materialised

torch.set_num_threads(1)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Orders for 32 examples, held-out pairs and a tokenizer."""
    return materialised(tmp_path)
